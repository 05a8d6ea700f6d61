"""What the whole tree promises, as far as a test can read it: sizes, pins, documented settings."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from service.settings import Settings
from tests.tiny_pipeline import write_tiny_pipeline

ROOT = Path(__file__).parent.parent
CODE = ("model", "service", "docker", "benchmarks", "tests")
SOURCES = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
PACKAGES = ("model", "service")
DOORS = {"service/client/__init__.py"}
"""Packages that other people's programs import by name."""
OPERATIONS = ROOT / "docs" / "operations.md"


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _texts() -> Iterator[Path]:
    """Every file that people write."""
    suffixes = {".py", ".md", ".toml", ".lua", ".conf", ".html", ".js", ".css", ".yml", ".yaml", ""}
    for folder in (*CODE, "docs", ".ci"):
        yield from (p for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix in suffixes)
    yield from (p for p in ROOT.iterdir() if p.is_file() and p.name != ".git")


def test_files_are_of_a_size_to_read() -> None:
    lengths = {_name(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_functions_are_of_a_size_to_read() -> None:
    too_long = [
        f"{_name(path)}:{node.lineno} {node.name}"
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] != "tests"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= 50
    ]
    assert too_long == []


def test_importing_a_package_runs_nothing() -> None:
    inits = [path for name in PACKAGES for path in (ROOT / name).rglob("__init__.py")]
    assert inits
    assert {_name(path) for path in inits if path.stat().st_size > 0} == DOORS
    for door in DOORS:
        names = {type(each) for each in ast.parse((ROOT / door).read_text()).body}
        assert names <= {ast.Expr, ast.ImportFrom, ast.Assign}, f"{door} does more than import"


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in SOURCES if path.relative_to(ROOT).parts[0] in PACKAGES}
    assert [_name(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("module", ["service.client", "service.local", "service.cli.main"])
def test_importing_a_process_without_a_device_leaves_torch_unloaded(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


START_API = """
import asyncio, sys
import httpx
from service.api.app import create_app
from service.settings import Settings
from service.wiring import build_catalog, build_queue, build_store, build_tokenizers

async def start() -> None:
    settings = Settings()
    catalog = build_catalog(settings)
    parts = build_queue(settings), build_store(settings), catalog, build_tokenizers(catalog)
    app = create_app(settings, *parts)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api")
    async with app.router.lifespan_context(app), client:
        for path in ("/healthz", "/openapi.json"):
            (await client.get(path)).raise_for_status()

asyncio.run(start())
sys.exit("torch" in sys.modules)
"""


def test_a_running_api_leaves_torch_unloaded(tmp_path: Path) -> None:
    write_tiny_pipeline(tmp_path / "tiny")
    settings = {
        "GLIDE_REDIS__URL": "redis://127.0.0.1:1/0",
        "GLIDE_STORE__PATH": str(tmp_path / "images"),
        "GLIDE_MODELS__FOLDERS": json.dumps([str(tmp_path / "tiny")]),
    }
    command = [sys.executable, "-c", START_API]
    assert subprocess.run(command, cwd=ROOT, env=os.environ | settings, check=False).returncode == 0


def _settings(group: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    """Environment variable, default and meaning of each setting, depth first."""
    for name, field in group.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        if isinstance(field.default, BaseModel):
            yield from _settings(type(field.default), f"{variable}__")
        else:
            default = "" if field.default in (None, ()) else f"`{field.default}`"
            yield variable, default, field.description or ""


SETTINGS = tuple(_settings(Settings, "GLIDE_"))


def test_every_setting_stands_in_the_operations_page_as_it_is() -> None:
    page = OPERATIONS.read_text()
    rows = [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in SETTINGS]
    missing = [row for row in rows if row not in page]
    assert missing == [], "docs/operations.md lacks:\n" + "\n".join(missing)


def test_every_setting_that_a_document_names_exists() -> None:
    known = {name for name, _, _ in SETTINGS}
    named = {
        (_name(path), word)
        for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("[Dd]ocker*"))
        if path.is_file()
        for word in re.findall(r"\bGLIDE_[A-Z0-9_]*[A-Z0-9]\b", path.read_text())
    }
    assert named
    assert {(file, word) for file, word in named if word not in known} == set()


def test_torch_is_pinned_alike_where_it_is_pinned() -> None:
    pins = {
        _name(path): re.findall(r"torch==([\w.+]+)", path.read_text())
        for path in _texts()
        if path != Path(__file__)
    }
    found = {name: versions for name, versions in pins.items() if versions}
    assert set(found) == {"Makefile", "Dockerfile"}
    assert found["Makefile"] == found["Dockerfile"]
    assert len(found["Makefile"]) == 1


def test_images_pin_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    worker = [name for name in extras["worker"] if not name.startswith("torch")]
    wanted = {"api": project["dependencies"], "worker": project["dependencies"] + worker}
    for image, requirements in (wanted | {"serve": extras["embedded"]}).items():
        lock = (ROOT / "docker" / f"requirements-{image}.txt").read_text()
        pinned = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
        names = {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in requirements}
        assert names <= pinned, f"`make lock`: {image} lacks {names - pinned}"


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    roots = "|".join(("home", "Users", "mnt", "work", "workspace"))
    pattern = re.compile(rf"(?<![\w.~])/(?:{roots})/")
    found = [
        f"{_name(path)}: {line.strip()}"
        for path in _texts()
        for line in path.read_text(errors="replace").splitlines()
        if pattern.search(line)
    ]
    assert found == []
