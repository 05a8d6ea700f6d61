"""GLIDE at its real size, with random weights: published, pulled, loaded and sampled."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
import json, re, sys
from pathlib import Path
from model.catalog import load_catalog
from model.checkpoints.survey import footprint
from model.params import SamplingParams, UpsampleParams
from service.engine.engine import Engine
from service.engine.runner import ModelRunner

def memory(name):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(name + r":\\s+(\\d+) kB", status)[1])

home, dtype, sizes = Path(sys.argv[1]), sys.argv[2], [int(size) for size in sys.argv[3:]]
spec = load_catalog([home])["glide"]
runner = ModelRunner.load([spec], "cpu", dtype)
engine = Engine(runner, max_batch=1)
found = {"weights": footprint(spec).bytes[dtype], "before": memory("VmHWM")}
runner.require("glide", ())
found |= {"loaded": memory("VmHWM"), "loaded_private": memory("RssAnon")}
images = []
for size in sizes:
    engine.add("job", SamplingParams(
        prompt="a cat", model="glide", width=size, height=size, sampler="ddpm", steps="2",
        upsample=UpsampleParams(steps=1),
    ))
    while engine.trajectories:
        output = engine.step()
        assert not output.failed, output.failed
        images += [image.pixels for image in output.images]
found |= {"peak": memory("VmHWM"), "spread": [float(image.std()) for image in images]}
print(json.dumps(found | {"shapes": [image.shape for image in images]}))
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
    shutil.rmtree(folder)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


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
    monkeypatch.setattr(sys, "argv", ["glide", "models", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


@pytest.mark.slow
def test_glide_is_pulled_through_interruptions_and_draws_within_its_memory(
    mirror: FileServer,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith("GLIDE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GLIDE_MODELS__HOME", str(home))
    monkeypatch.setenv("GLIDE_MODELS__MIRROR", mirror.url)
    assert (
        _glide("pull", "vocab", "--from", str(mirror.folder / "vocab"), monkeypatch=monkeypatch)
        == 0
    )
    half = (mirror.folder / "upsample.pt").stat().st_size // 2
    mirror.cuts = {"base.pt": [half], "upsample.pt": [half, 0, 0, 0, 0, 0]}
    refusal = _glide("pull", "glide", monkeypatch=monkeypatch)
    assert "try again" in str(refusal)
    assert not (home / "glide").exists()
    assert _glide("pull", "glide", monkeypatch=monkeypatch) == 0
    assert mirror.fetched("base.pt") == ["", f"bytes={half}-"]
    assert mirror.fetched("upsample.pt")[-1] == f"bytes={half}-"
    for name in ("base.pt", "upsample.pt"):
        assert (home / "openai" / name).stat().st_size == (mirror.folder / name).stat().st_size
    drawn = _measure(home, "float32", 256)
    sys.stdout.write(f"float32: {drawn}\n")  # `pytest -s` shows it
    assert drawn["shapes"] == [[256, 256, 3]]
    assert drawn["spread"][0] > 1
    assert drawn["loaded"] - drawn["before"] < 1.4 * drawn["weights"]  # one copy of the weights
    narrow = _measure(home, "bfloat16")
    sys.stdout.write(f"bfloat16: {narrow}\n")
    assert narrow["weights"] < 0.65 * drawn["weights"]
    assert narrow["loaded_private"] < 0.8 * drawn["weights"]


def _measure(home: Path, dtype: str, *sizes: int) -> dict[str, Any]:
    """Loads GLIDE in a process of its own and draws pictures; its memory, in bytes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", DRAW, str(home), dtype, *map(str, sizes)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
