"""`docs/api.md`: every example runs against a real service, and shows what the page says."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import InferenceClient, close_session
from openai import OpenAI
from PIL import Image
from replicate.client import Client as Replicate
from standardwebhooks import Webhook

from service.client import GlideClient
from service.jobs import JobStatus
from tests.clients.node_clients import BIN, install
from tests.docs.conftest import Server
from tests.docs.pages import Example, examples

PAGE = "api.md"
ROOT = Path(__file__).parents[2]
REFUSED = "Errors"
TOOLS = ("bash", "curl", "base64", "awk", "python3")
PRELUDE = """
set -euo pipefail
must_succeed=--fail-with-body
curl() { command curl $must_succeed "$@"; }
"""


def run_shell(blocks: list[Example], server: Server) -> list[str]:
    """Runs the blocks in one shell, as a reader does, and returns what each printed."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.fail(f"The examples of docs/{PAGE} need {', '.join(missing)}.", pytrace=False)
    script = [PRELUDE]
    for block in blocks:
        option = "" if block.section == REFUSED else "--fail-with-body"
        script.append(f"must_succeed={option}\necho '\x1e{block.line}'\n{block.code}")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GLIDE_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', '')}"
    done = subprocess.run(
        ["bash"],
        input="\n".join(script),
        env={**inherited, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout.split("\x1e")[1:]
    line = printed[-1].partition("\n")[0] if printed else "1"
    assert done.returncode == 0, f"docs/{PAGE}:{line}:\n{done.stdout[-2000:]}\n{done.stderr}"
    return [each.partition("\n")[2] for each in printed]


def format_of(file: Path | bytes) -> str | None:
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
        return image.format


def test_the_shell_examples_run(server: Server, folder: Path) -> None:
    blocks = examples(PAGE, "sh", server.constants)
    printed = dict(zip((block.line for block in blocks), run_shell(blocks, server), strict=True))

    def said(section: str) -> str:
        """What the last block of a section printed."""
        return [printed[each.line] for each in blocks if each.section == section][-1]

    assert said("In short") == "succeeded\n"
    first, second = said("Submit").splitlines()
    assert first == second
    assert "'same_pixels': True" in said("Receipts")
    assert "event: end" in said("Live")
    assert said("Stop") == "succeeded\n"
    assert said("Webhooks").endswith("pending\n")
    assert "'ok': True" in said("Health")
    kinds = {name: format_of(folder / name) for name in ("apple.png", "hooked.png", "picture.webp")}
    assert kinds == {"apple.png": "PNG", "hooked.png": "PNG", "picture.webp": "WEBP"}
    (refusal,) = (each for each in examples(PAGE, "json", {}) if each.section == REFUSED)
    shown, real = json.loads(refusal.code), json.loads(said(REFUSED))
    assert {**real, "request_id": shown["request_id"]} == shown


def test_the_python_examples_run(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    sections = []
    for block in examples(PAGE, "python", server.constants):
        sections.append(block.section)
        code = "\n" * (block.line - 1) + block.code
        exec(compile(code, f"docs/{PAGE}", "exec"), names)
        check = CHECKS.get(block.section)
        if check is not None:
            check(names)
    assert set(CHECKS) <= set(sections)
    printed = capsys.readouterr().out
    assert "succeeded" in printed
    assert "422 invalid_request" in printed
    assert (folder / "apple.png").stat().st_size > 0


def _run(names: dict[str, Any]) -> None:
    assert names["finished"].job.status is JobStatus.SUCCEEDED


def _client(names: dict[str, Any]) -> None:
    if "apple" not in names:
        names["client"].close()
        assert names["receipt"].rerun.same_pixels
        assert names["edited"].input.task == "inpaint"
        return
    assert {format_of(names[name]) for name in ("apple", "cat")} == {"PNG"}


def _webhook(names: dict[str, Any]) -> None:
    assert callable(names["handle"])


def _openai(names: dict[str, Any]) -> None:
    assert [image.seed for image in names["images"].data] == [7, 8]
    assert names["edited"].data[0].b64_json
    names["client"].close()


def _replicate(names: dict[str, Any]) -> None:
    assert len(names["urls"]) == 2
    names["client"]._client.close()  # it offers no other way


def _huggingface(names: dict[str, Any]) -> None:
    assert names["image"].size == names["again"].size == (64, 64)
    close_session()


CHECKS = {
    "In short": _run,
    "The Python client": _client,
    "Webhooks": _webhook,
    "OpenAI clients": _openai,
    "Replicate clients": _replicate,
    "Hugging Face clients": _huggingface,
}


def test_the_webhook_example_believes_what_the_service_signs(server: Server) -> None:
    (block,) = (
        each for each in examples(PAGE, "python", server.constants) if each.section == "Webhooks"
    )
    names: dict[str, Any] = {}
    exec(compile(block.code, f"docs/{PAGE}", "exec"), names)
    with GlideClient(server.api.url, api_key=server.key) as client:
        signer = Webhook(client.webhook_secret().secret)
    body, now = '{"type": "job.failed", "data": {"id": "job_1", "images": []}}', datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signer.sign("msg_1", now, body),
    }
    names["handle"](body.encode(), headers)
    with pytest.raises(Exception, match="signature"):
        names["handle"](body.replace("1", "2").encode(), headers)


def test_the_lines_of_the_readme_run(server: Server) -> None:
    url = "http://127.0.0.1:8000"
    keyed = {f'("{url}")': f'("{url}", api_key="{server.key}")'}
    blocks = examples("../README.md", "python", {**keyed, **server.constants})
    own, others = (each.code for each in blocks if each.section == "The API")
    with contextlib.ExitStack() as stack:
        stack.callback(close_session)

        def client(key: str, base_url: str) -> Replicate:
            made = Replicate(key, base_url=base_url)
            stack.callback(made._client.close)
            return made

        names: dict[str, Any] = {
            "API": server.api.url,
            "KEY": server.key,
            "OpenAI": lambda **options: stack.enter_context(OpenAI(**options)),
            "replicate": SimpleNamespace(Client=client),
            "InferenceClient": InferenceClient,
        }
        exec(own, names)
        exec(others, names)
    assert format_of(names["png"]) == "PNG"
    prompts = [job["input"]["prompt"] for job in server.api.http.get("/v1/jobs").json()["data"]]
    assert prompts[:4] == [
        *("a cat", "a red apple"),
        *["a red apple on the grass"] * 2,
    ]


@pytest.mark.slow
def test_the_javascript_examples_run(server: Server, folder: Path) -> None:
    (folder / "node_modules").symlink_to(install().folder / "node_modules")
    sections = set()
    for block in examples(PAGE, "js", server.constants):
        sections.add(block.section)
        script = folder / "example.mjs"
        script.write_text(block.code)
        done = subprocess.run(
            [str(BIN / "node"), script.name],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"docs/{PAGE}:{block.line}:\n{done.stderr}"
    assert sections >= {"In short", "Live", *CHECKS} - {"The Python client"}
    assert format_of(folder / "apple.png") == "PNG"
