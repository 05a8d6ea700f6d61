import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.service.live_api import LiveApi


def content(media_type: str, schema: str) -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


PROBLEM = content("application/problem+json", "Problem")
DIALECTS = {
    "/v1/images/generations": content("application/json", "OpenAIError"),
    "/v1/images/edits": content("application/json", "OpenAIError"),
    "/v1/images/variations": content("application/json", "OpenAIError"),
    "/v1/models": content("application/problem+json", "ModelProblem"),
    "/hf/": content("application/json", "HuggingFaceError"),
    "/replicate/": content("application/problem+json", "ReplicateProblem"),
}
DOCS = Path(__file__).parents[3] / "docs" / "api.md"


@pytest.fixture
def document(shared_api: LiveApi) -> dict[str, Any]:
    found: dict[str, Any] = shared_api.http.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_error_is_declared_in_the_dialect_of_its_path(document: dict[str, Any]) -> None:
    found = operations(document)
    for name, operation in found.items():
        path = name.split(" ")[1]
        errors = {code: each for code, each in operation["responses"].items() if code >= "400"}
        always = {"500"} if path.startswith("/hf/") else {"500", "503"}
        assert name == "GET /healthz" or always <= set(errors)
        spoken = (said for prefix, said in DIALECTS.items() if path.startswith(prefix))
        expected = next(spoken, PROBLEM)
        assert all(each["content"] == expected for each in errors.values()), name
    assert {"400", "413", "415", "422", "429"} <= set(found["POST /v1/jobs"]["responses"])


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r'"\$ref": ?"#/components/schemas/(\w+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_no_parameter_may_be_null(document: dict[str, Any]) -> None:
    parameters = [
        parameter
        for operation in operations(document).values()
        for parameter in operation.get("parameters", ())
    ]
    assert parameters
    assert "null" not in json.dumps(parameters)


def test_unknown_fields_are_declared_as_refused(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["JobCreate"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["prompt"]


def test_every_route_and_field_is_in_the_documentation(document: dict[str, Any]) -> None:
    text = DOCS.read_text()
    missing = [name for name in operations(document) if f"`{name}`" not in text]
    fields = document["components"]["schemas"]["JobCreate"]["properties"]
    assert missing + [name for name in fields if f"`{name}`" not in text] == []


def test_the_api_never_loads_torch() -> None:
    code = "import sys, service.api.app; print('torch' in sys.modules, 'fastapi' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
