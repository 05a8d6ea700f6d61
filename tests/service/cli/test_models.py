import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.checkpoints.sources import RELEASES
from service.cli.main import main
from tests.file_server import FileServer, file_server
from tests.released_files import write_released
from tests.tiny_pipeline import write_tiny_pipeline


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for source in RELEASES["adm-64"].sources:
        assert source.architecture is not None
        write_released(folder / source.name, source.architecture)
    return folder


@pytest.fixture
def mirror(published: Path) -> Iterator[FileServer]:
    with file_server(published) as server:
        yield server


class Glide:
    """The command line, in this process, with a home of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> str:
        """What a command prints.

        Raises:
            SystemExit: it fails; its code is the sentence.
        """
        self._monkeypatch.setattr(sys, "argv", ["glide", "models", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        if caught.value.code not in (0, None):
            raise caught.value
        return self._capsys.readouterr().out

    def listed(self) -> dict[str, Any]:
        return {record["name"]: record for record in json.loads(self("list", "--json"))}


@pytest.fixture
def glide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Glide:
    for name in [name for name in os.environ if name.startswith("GLIDE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GLIDE_MODELS__HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return Glide(monkeypatch, capsys)


def test_a_pull_over_a_mirror_is_listed_with_what_it_can_do(
    glide: Glide, mirror: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLIDE_MODELS__MIRROR", mirror.url)
    assert "adm-64: OpenAI's" in glide("pull", "adm-64")
    found = glide.listed()["adm-64"]
    assert (found["sizes"], found["classes"], found["guides"]) == ([64], 1000, ["classifier"])
    assert found["tasks"] == ["generate", "inpaint", "variation", "interpolation"]
    assert found["memory_bytes"]["float32"] == 4 * found["parameters"] > 10**9
    assert found["missing"] == []
    table = glide("list")
    assert "classifier guidance" in table
    assert "1.45 GB" in table
    assert glide() == table


def test_missing_and_damaged_files_show_in_the_list(
    glide: Glide, published: Path, tmp_path: Path
) -> None:
    glide("pull", "adm-64", "--from", str(published))
    weights = tmp_path / "home" / "openai" / "64x64_diffusion.pt"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "damaged" in glide("list")
    weights.unlink()
    assert "1 files missing" in glide("list")
    assert glide.listed()["adm-64"]["missing"] == [str(weights)]
    assert glide.listed()["scenes"]["missing"] == []


def test_local_files_are_added_and_removed(glide: Glide, published: Path, tmp_path: Path) -> None:
    assert "mine: OpenAI's adm-64" in glide("add", "mine", str(published / "64x64_diffusion.pt"))
    folder = write_tiny_pipeline(tmp_path / "tiny", base=16, upsampled=64).folder
    glide("add", "small", str(folder))
    assert {"mine", "small", "scenes"} <= set(glide.listed())
    assert "upscale" in glide.listed()["small"]["tasks"]
    assert str(tmp_path / "home" / "mine") in glide("remove", "mine")
    assert "mine" not in glide.listed()
    assert (published / "64x64_diffusion.pt").exists()


def test_removing_with_files_deletes_what_was_pulled(
    glide: Glide, published: Path, tmp_path: Path
) -> None:
    glide("pull", "adm-64", "--from", str(published))
    assert "64x64_classifier.pt" in glide("remove", "adm-64", "--files")
    assert [path.name for path in (tmp_path / "home" / "openai").iterdir()] == ["checksums.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pull", "dalle"], "there are: glide, vocab"),
        (["pull", "adm-64", "--from", "{tmp}"], "has no 64x64_diffusion.pt"),
        (["pull", "adm-64"], "GLIDE_MODELS__MIRROR"),
        (["add", "scenes", "{tmp}"], "already"),
        (["add", "mine", "{tmp}"], "no weight files"),
        (["remove", "mine"], "no pipeline 'mine'"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_registers_nothing(
    arguments: list[str],
    words: str,
    glide: Glide,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GLIDE_MODELS__MIRROR", "http://127.0.0.1:1")
    with pytest.raises(SystemExit) as caught:
        glide(*(word.format(tmp=tmp_path) for word in arguments))
    sentence = caught.value.code
    assert isinstance(sentence, str)
    assert words in sentence
    assert "\n" not in sentence
    assert set(glide.listed()) == {"scenes"}
