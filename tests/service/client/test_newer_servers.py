"""What an older client makes of the answers of a newer server."""

import json
from typing import Any

import pytest

from model.params import SamplerName
from service.client import UnreadableAnswer
from tests.service.client.conftest import MakeClient
from tests.service.client.script_server import Script
from tests.service.live_api import LiveApi


@pytest.fixture
def job(api: LiveApi) -> dict[str, Any]:
    """A job as today's server shows it."""
    found: dict[str, Any] = api.http.get(f"/v1/jobs/{api.submit()}").json()
    return found


def asked(make_client: MakeClient, answer: object) -> Any:
    """What a client makes of an answer."""
    with Script([(200, {}, json.dumps(answer).encode())]).serve() as url:
        return make_client(url).get("job_1")


def test_new_members_and_words_are_no_trouble(job: dict[str, Any], make_client: MakeClient) -> None:
    job["input"] |= {"sampler": "flow_9", "task": "sculpt", "output_format": "avif", "depth": 3}
    found = asked(make_client, {**job, "mood": "good"})
    assert found.id == job["id"]
    assert found.input.sampler == "flow_9"
    assert found.input.task == "sculpt"
    assert found.input.output_format == "avif"


def test_known_words_are_members_of_their_enumeration(
    job: dict[str, Any], make_client: MakeClient
) -> None:
    assert isinstance(asked(make_client, job).input.sampler, SamplerName)


def test_what_can_not_be_read_is_said(job: dict[str, Any], make_client: MakeClient) -> None:
    for answer, place in (({**job, "step": "many"}, "step: "), ([], "the body: "), ("a", "body")):
        with pytest.raises(UnreadableAnswer, match=place):
            asked(make_client, answer)
    with (
        Script([(200, {}, b"<html>Sign in</html>")]).serve() as url,
        pytest.raises(UnreadableAnswer, match="does not answer as this release"),
    ):
        make_client(url).models()
