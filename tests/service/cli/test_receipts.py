import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner, Result

from model.catalog import PipelineSpec
from service.cli.main import app
from service.errors import InvalidRequest
from service.settings import Settings
from service.store.inputs import keep_input
from service.wiring import build_store
from tests.service.some_pictures import picture
from tests.tiny_pipeline import write_tiny_pipeline

SMALL = ("--model", "tiny", "--size", "16", "--steps", "4", "--seed", "3")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> PipelineSpec:
    return write_tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny", base=16, upsampled=64)


@pytest.fixture(autouse=True)
def environment(spec: PipelineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIDE_MODELS__FOLDERS", json.dumps([str(spec.folder)]))
    monkeypatch.setenv("GLIDE_STORE__PATH", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)


def glide(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def receipt(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(glide("receipt", *arguments, "--json").stdout)
    return found


def change_a_pixel(path: Path) -> None:
    with Image.open(path) as image:
        pixels, texts = np.array(image), image.text  # type: ignore[attr-defined]
    pixels[0, 0, 0] ^= 128
    chunks, buffer = PngInfo(), io.BytesIO()
    for keyword, text in texts.items():
        chunks.add_itxt(keyword, text)
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=chunks)
    path.write_bytes(buffer.getvalue())


def test_a_picture_that_was_drawn_here_tells_how(tmp_path: Path) -> None:
    glide("sample", "a red apple", "-o", "a.png", *SMALL)
    text = glide("receipt", "a.png").stdout
    for part in ("tiny, the one that is here", "seed        3", "as they were drawn", "red apple"):
        assert part in text
    found = receipt("a.png")
    assert (found["found"], found["seed"], found["job_id"]) == (True, 3, None)
    assert found["pixels_match"] is True


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_rerun_gives_the_same_pixels_and_a_changed_one_is_noticed(suffix: str) -> None:
    path = Path(f"a.{suffix}")
    glide("sample", "a red apple", "-o", str(path), "-n", "2", *SMALL)
    second = path.with_stem("a-1")
    assert receipt(str(second), "--rerun")["rerun"]["same_pixels"] is True
    if suffix == "png":
        change_a_pixel(second)
        found = receipt(str(second), "--rerun")
        assert found["pixels_match"] is False
        assert found["rerun"]["max_difference"] == 128
        assert "was changed" in glide("receipt", str(second), "--rerun").stdout


def test_an_edit_is_drawn_again_from_the_store_or_from_the_file_that_is_given(
    tmp_path: Path,
) -> None:
    Path("photo.png").write_bytes(picture())
    glide("sample", "a red apple", "-o", "a.png", "--image", "photo.png", *SMALL)
    with pytest.raises(InvalidRequest, match="not in the store; give it with --image"):
        glide("receipt", "a.png", "--rerun")
    with pytest.raises(InvalidRequest, match=r"a\.png is not the image it started from"):
        glide("receipt", "a.png", "--rerun", "--image", "a.png")
    given = receipt("a.png", "--rerun", "--image", "photo.png")
    assert given["rerun"]["same_pixels"] is True
    assert given["digital_source_type"].endswith("compositeWithTrainedAlgorithmicMedia")
    keep_input(build_store(Settings()), picture())
    assert receipt("a.png", "--rerun")["rerun"]["same_pixels"] is True


def test_a_picture_of_another_origin_says_nothing_and_cannot_be_drawn_again() -> None:
    Path("photo.png").write_bytes(picture())
    assert "doesn't say how it was made" in glide("receipt", "photo.png").stdout
    with pytest.raises(InvalidRequest, match="no record of this service"):
        glide("receipt", "photo.png", "--rerun")
