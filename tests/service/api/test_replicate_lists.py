"""Lists, models, the account, and whose things are whose, as they are on the wire."""

import base64
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from service.api.replicate.models import version_of
from tests.service.api.replicate_talk import (
    PROMPT,
    P,
    bearer,
    created,
    refused,
    stream,
)
from tests.service.live_api import LiveApi, Worker
from tests.service.some_pictures import picture
from tests.service.tiny_spec import tiny_spec


def test_predictions_are_listed_newest_first_and_linked(api: LiveApi) -> None:
    ids = [api.submit() for _ in range(2)] + [created(api)["id"] for _ in range(203)]
    ids.reverse()
    url: str | None = f"{P}/predictions"
    pages = []
    while url:
        pages.append(api.http.get(url).json())
        url = pages[-1]["next"]
        assert url is None or url.startswith(f"{api.url}{P}/predictions?cursor=")
    assert [len(page["results"]) for page in pages] == [100, 100, 5]
    assert [each["id"] for page in pages for each in page["results"]] == ids
    assert pages[0]["previous"] is None
    back = api.http.get(pages[2]["previous"]).json()
    assert back["results"] == pages[1]["results"]
    assert api.http.get(back["previous"]).json()["results"] == pages[0]["results"]
    oldest = pages[-1]["results"][-1]
    assert (oldest["model"], oldest["input"]["num_outputs"]) == ("glide/tiny", 1)
    assert re.fullmatch("[0-9a-f]{64}", oldest["version"])


def test_a_list_may_be_bounded_by_time(api: LiveApi) -> None:
    first, second = created(api), created(api)
    between = second["created_at"]

    def listed(**bounds: str) -> list[str]:
        found = api.http.get(f"{P}/predictions", params=bounds).json()["results"]
        return [each["id"] for each in found]

    assert first["created_at"] < between
    assert listed(created_after=between) == [second["id"]]
    assert listed(created_before=between) == [first["id"]]
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert listed(created_after=tomorrow) == []
    assert listed(created_before=tomorrow) == [second["id"], first["id"]]
    refused(api.http.get(f"{P}/predictions", params={"created_after": "x"}))
    assert refused(api.http.get(f"{P}/predictions?cursor=x")) == [
        "- cursor: is not one of another page"
    ]


def test_a_model_shows_what_it_takes(shared_api: LiveApi) -> None:
    (listed,) = shared_api.http.get(f"{P}/models").json()["results"]
    model = shared_api.http.get(f"{P}/models/glide/tiny").json()
    assert listed == model
    assert (model["owner"], model["name"], model["visibility"]) == ("glide", "tiny", "public")
    version = model["latest_version"]
    schemas = version["openapi_schema"]["components"]["schemas"]
    assert schemas["Output"]["items"] == {"type": "string", "format": "uri"}
    assert "x-cog-array-type" not in schemas["Output"]
    properties = schemas["Input"]["properties"]
    assert [each["x-order"] for each in properties.values()] == list(range(len(properties)))
    assert schemas["Input"]["required"] == ["prompt"]
    assert properties["width"]["enum"] == [64, 256]
    assert properties["scheduler"]["default"] == "dpmpp_2m"
    assert all("type" in each for each in properties.values())
    versions = shared_api.http.get(f"{P}/models/glide/tiny/versions").json()
    assert versions["results"] == [version]
    one = f"{P}/models/glide/tiny/versions/{version['id']}"
    assert shared_api.http.get(one).json() == version
    refused(shared_api.http.get(f"{P}/models/glide/tiny/versions/{'0' * 64}"), 404)
    refused(shared_api.http.get(f"{P}/models/acme/tiny"), 404)


def test_a_version_changes_with_the_weights(tmp_path: Path) -> None:
    def version(folder: str, weights: bytes) -> str:
        (tmp_path / folder).mkdir()
        spec = tiny_spec(tmp_path / folder)
        stages = (replace(spec.stages[0], weights=("base.safetensors",)), spec.stages[1])
        (spec.folder / "base.safetensors").write_bytes(weights)
        return version_of(replace(spec, stages=stages))

    assert version("one", b"weights") == version("same", b"weights")
    assert version("other", b"changed") != version("more", b"weights")


def test_the_account_its_devices_and_its_secret_are_shown(api: LiveApi, worker: Worker) -> None:
    assert api.http.get(f"{P}/account").json()["username"] == "default"
    assert api.http.get(f"{P}/hardware").json() == []
    worker.announce()
    assert api.http.get(f"{P}/hardware").json() == [{"sku": "cpu", "name": "cpu"}]
    secret = api.http.get(f"{P}/webhooks/default/secret").json()["key"]
    assert secret == api.http.get(f"{P}/webhooks/default/secret").json()["key"]
    prefix, key = secret.split("_")
    assert (prefix, len(base64.b64decode(key, validate=True))) == ("whsec", 32)


def test_nothing_of_another_tenant_is_seen(api: LiveApi) -> None:
    acme, other = (httpx.Client(base_url=api.url, headers=bearer(api, name)) for name in "ao")
    with acme, other:
        body = {"version": "tiny", "input": PROMPT}
        seen = acme.post(f"{P}/predictions", json=body).json()
        file = acme.post(f"{P}/files", files={"content": picture()}).json()
        for url in (seen["urls"]["get"], file["urls"]["get"]):
            assert acme.get(url).status_code == 200
            refused(other.get(url), 404)
        refused(other.post(seen["urls"]["cancel"]), 404)
        refused(other.delete(file["urls"]["get"]), 404)
        assert other.get(f"{P}/predictions").json()["results"] == []
        assert other.get(f"{P}/files").json()["results"] == []
        body["input"] = {**PROMPT, "image": file["urls"]["get"]}
        (line,) = refused(other.post(f"{P}/predictions", json=body))
        assert "there is no file" in line
        secrets = {each.get(f"{P}/webhooks/default/secret").text for each in (acme, other)}
        assert len(secrets) == 2
        assert acme.get(f"{P}/account").json()["username"] == "a"


def test_a_missing_key_is_refused_but_signed_links_need_none(api: LiveApi, worker: Worker) -> None:
    headers = bearer(api, "default")
    with httpx.Client(base_url=api.url, headers=headers) as http:
        seen = http.post(f"{P}/predictions", json={"version": "tiny", "input": PROMPT}).json()
        worker.finish(worker.take(), b"image")
        (output,) = http.get(seen["urls"]["get"]).json()["output"]
    response = api.http.get(seen["urls"]["get"])
    refused(response, 401)
    assert response.json()["title"] == "Unauthenticated"
    assert httpx.get(output).content == b"image"
    with stream(seen["urls"]["stream"]) as (_, events):
        assert [each["event"] for each in events][-1] == "done"
