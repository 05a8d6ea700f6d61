"""`docs/api.md` and the running API say the same: routes, parameters, members, events, errors."""

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from service.api.problems import _FRAMEWORK_CODES, _STATUSES
from service.client import AsyncGlideClient, GlideClient
from service.errors import JobCanceled, NoWorker
from service.views.event import JobEvent
from service.views.job import JobView
from tests.docs.conftest import Server
from tests.docs.pages import DOCS, examples

TEXT = (DOCS / "api.md").read_text()
NOT_NATIVE = (JobCanceled, NoWorker)
"""Errors that no native route raises."""
DIALECTS = ("/replicate/", "/hf/", "/v1/images/generations", "/v1/images/edits", "/v1/images/vari")
METHODS = "GET|POST|PUT|PATCH|DELETE"


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.api.http.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def native(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations that this page describes member by member; others speak known dialects."""
    return [
        operation
        for name, operation in operations(document).items()
        if not name.split(" ")[1].startswith(DIALECTS)
    ]


def references(part: Any) -> set[str]:
    return set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(part)))


def reachable(document: dict[str, Any], operation: dict[str, Any]) -> set[str]:
    """Names of the schemas that the requests and answers of an operation are made of."""
    schemas, found, left = document["components"]["schemas"], set(), references(operation)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left |= references(schemas[name])
    return found


def unmentioned(names: set[str]) -> list[str]:
    """Those of the names that stand nowhere as code."""
    code = " ".join(re.findall(r"`[^`\n]+`|```.*?```|\"\w+\":", TEXT, re.DOTALL)).lower()
    return sorted(name for name in names if not re.search(rf"\b{re.escape(name.lower())}\b", code))


def test_the_tables_have_exactly_the_routes_of_the_api(document: dict[str, Any]) -> None:
    shown = re.findall(rf"^\| `((?:{METHODS}) [^`?]+)` \|", TEXT, re.MULTILINE)
    assert sorted(shown) == sorted(operations(document))
    named = set(re.findall(rf"`((?:{METHODS}) /[^`?]*)`", TEXT))
    assert named <= set(operations(document))


def test_every_parameter_is_described(document: dict[str, Any]) -> None:
    names = {
        parameter["name"]
        for operation in native(document)
        for parameter in operation.get("parameters", [])
    }
    assert {"wait", "cursor", "Prefer", "job_id"} <= names
    assert unmentioned(names) == []


def test_every_member_of_requests_and_answers_is_described(document: dict[str, Any]) -> None:
    kinds = set().union(*(reachable(document, operation) for operation in native(document)))
    assert {"JobCreate", "JobView", "ModelView", "ReceiptView", "Problem"} <= kinds
    schemas = document["components"]["schemas"]
    names = {name for kind in kinds for name in schemas[kind].get("properties", {})}
    assert unmentioned(names) == []


def test_the_job_of_the_page_has_the_members_of_a_job() -> None:
    shown = next(each for each in examples("api.md", "json", {}) if '"object": "job"' in each.code)
    job = json.loads(shown.code)
    assert list(job) == list(JobView.model_fields)
    for name in ("metrics", "links"):
        kind = JobView.model_fields[name].annotation
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        assert set(job[name]) == set(kind.model_fields)


def events() -> Iterator[tuple[str, set[str]]]:
    """The name of every event, and its own members."""
    for kind in get_args(get_args(JobEvent)[0]):
        yield (
            kind.model_fields["type"].default,
            set(kind.model_fields) - {"id", "type", "job_id"},
        )


def test_the_events_of_the_page_are_those_of_the_stream() -> None:
    table = TEXT[TEXT.index("| event | `data` beside") :].partition("\n\n")[0]
    shown = {
        name: set(re.findall(r"`(\w+)`", rest))
        for name, rest in re.findall(r"^\| `(\w+)` \|(.*)\|$", table, re.MULTILINE)
    }
    assert shown == dict(events())


def test_every_kind_of_error_is_listed() -> None:
    raised = {kind.code for kind in _STATUSES if kind not in NOT_NATIVE}
    framework = {code for code, _ in _FRAMEWORK_CODES.values()}
    assert unmentioned(raised | framework) == []


def public(kind: type) -> dict[str, list[str]]:
    """The methods of a client, and their parameters."""
    return {
        name.replace("aclose", "close"): list(inspect.signature(getattr(kind, name)).parameters)
        for name in vars(kind)
        if not name.startswith("_") and callable(getattr(kind, name))
    }


def test_every_method_of_the_clients_is_listed() -> None:
    methods = public(GlideClient)
    assert public(AsyncGlideClient) == methods
    assert unmentioned(set(methods)) == []
    calls = re.findall(r"`(\w+)\(([^`)]*)\)`", TEXT[TEXT.index("| method | does |") :])
    for name, arguments in calls:
        named = {each.strip(" *=") for each in arguments.split(",") if each.strip()}
        assert named <= set(methods[name]), name
