"""How the tests of Replicate's front door talk to it."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.service.event_blocks import Block, blocks
from tests.service.live_api import LiveApi

P = "/replicate/v1"
PROMPT = {"prompt": "a red apple"}
WAIT = {"Prefer": "wait"}


def create(api: LiveApi, given: dict[str, Any] | None = None, **body: Any) -> httpx.Response:
    headers = body.pop("headers", {})
    asked = {"version": "glide/tiny", "input": PROMPT if given is None else given, **body}
    return api.http.post(f"{P}/predictions", json=asked, headers=headers)


def created(api: LiveApi, given: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
    response = create(api, given, **body)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def refused(response: httpx.Response, status: int = 422) -> list[str]:
    """The lines of a refusal."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"title", "detail", "status", "type", "instance"}
    assert problem["status"] == status
    lines: list[str] = problem["detail"].splitlines()
    return lines


def upload(api: LiveApi, data: bytes, **fields: str) -> dict[str, Any]:
    files = {"content": ("fox.png", data, "image/png")}
    response = api.http.post(f"{P}/files", files=files, data=fields)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


@contextmanager
def stream(url: str, **headers: str) -> Iterator[tuple[httpx.Response, Iterator[Block]]]:
    """Follows a prediction as a client that has nothing but the URL."""
    with httpx.stream("GET", url, headers=headers, timeout=30) as response:
        yield response, (each for each in blocks(response.iter_lines()) if "event" in each)


def bearer(api: LiveApi, tenant: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api.new_key(tenant)}"}
