"""GLIDE at its real size, with random weights: published, pulled, loaded and sampled."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.checkpoints.architectures import ARCHITECTURES
from model.checkpoints.sources import RELEASES
from service.cli.main import main
from tests.file_server import FileServer, file_server
from tests.released_files import write_released
from tests.vocabularies import vocabulary_file

ROOT = Path(__file__).parents[2]
REAL = ("glide-base", "glide-upsample")
"""These two have all their numbers; of the others only keys and shapes are of full size."""

DRAW = """
import json, resource, sys
from pathlib import Path
from model.catalog import load_catalog
from model.checkpoints.survey import footprint
from model.params import SamplingParams, UpsampleParams
from service.engine.engine import Engine
from service.engine.runner import ModelRunner

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

home, dtype = Path(sys.argv[1]), sys.argv[2]
spec = load_catalog([home])["glide"]
runner = ModelRunner.load([spec], "cpu", dtype)
engine = Engine(runner, max_batch=1)
before = peak()
runner.require("glide", ())
loaded = peak()
params = SamplingParams(
    prompt="a cat", model="glide", sampler="ddpm", steps="2", upsample=UpsampleParams(steps=1)
)
engine.add("job", params)
images = []
while engine.trajectories:
    output = engine.step()
    assert not output.failed, output.failed
    images += output.images
print(json.dumps({
    "shape": images[0].pixels.shape,
    "spread": float(images[0].pixels.std()),
    "weights": footprint(spec).bytes[dtype],
    "before": before, "loaded": loaded, "peak": peak(),
}))
"""


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    vocabulary = vocabulary_file("encoder.json").parent
    folder = tmp_path_factory.mktemp("published")
    for source in RELEASES["glide"].sources:
        if source.architecture in REAL:
            _write_random(folder / source.name, source.architecture)
        elif source.architecture is not None:
            write_released(folder / source.name, source.architecture)
    with file_server(folder) as server:
        (folder / "vocab").symlink_to(vocabulary)
        yield server


def _write_random(path: Path, architecture: str) -> None:
    """A whole file: every number drawn, so that a layer keeps its input's scale."""
    with torch.device("meta"):
        shapes = ARCHITECTURES[architecture].build().state_dict()
    generator = torch.Generator().manual_seed(1)
    weights = {
        key: torch.randn(tensor.shape, generator=generator) * max(tensor[0].numel(), 1) ** -0.5
        if tensor.ndim > 1
        else torch.full(tensor.shape, float(key.endswith("weight")))
        for key, tensor in shapes.items()
    }
    torch.save(weights, path)


def _glide(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "argv", ["glide", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


@pytest.mark.slow
def test_glide_is_pulled_through_interruptions_and_draws_within_its_memory(
    mirror: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: pytest.FixtureRequest,
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("GLIDE_MODELS__HOME", str(home))
    monkeypatch.setenv("GLIDE_MODELS__MIRROR", mirror.url)
    assert (
        _glide(
            "models",
            "pull",
            "vocab",
            "--from",
            str(mirror.folder / "vocab"),
            monkeypatch=monkeypatch,
        )
        == 0
    )
    half = (mirror.folder / "upsample.pt").stat().st_size // 2
    mirror.cuts = {"base.pt": [half], "upsample.pt": [half, 0, 0, 0, 0, 0]}
    refusal = _glide("models", "pull", "glide", monkeypatch=monkeypatch)
    assert "try again" in str(refusal)
    assert not (home / "glide").exists()
    assert _glide("models", "pull", "glide", monkeypatch=monkeypatch) == 0
    assert mirror.fetched("base.pt") == ["", f"bytes={half}-"]
    assert mirror.fetched("upsample.pt")[-1] == f"bytes={half}-"
    for name in ("base.pt", "upsample.pt"):
        assert (home / "openai" / name).stat().st_size == (mirror.folder / name).stat().st_size
    found = _draw(home, "float32")
    record_property("float32", found)
    assert found["shape"] == [256, 256, 3]
    assert found["spread"] > 1
    assert found["peak"] < 1.5 * found["weights"] + 2e9  # one copy of the weights, and room to draw


def _draw(home: Path, dtype: str) -> dict[str, float]:
    """Draws one picture in a process of its own; its memory, in bytes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", DRAW, str(home), dtype],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found
