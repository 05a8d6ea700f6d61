import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.catalog import PipelineSpec
from model.checkpoints.survey import footprint
from model.errors import CheckpointError, UnsupportedSampling
from model.params import SamplingParams
from model.pipeline import Pipeline
from service.engine.engine import Engine
from service.engine.runner import ModelRunner
from service.engine.shelf import Bounds, Shelf
from tests.tiny_pipeline import write_tiny_pipeline

NAMES = ("a", "b", "c")
DRAWING = SamplingParams(prompt="a cat", model="a", width=16, height=16, steps=2)


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PipelineSpec]:
    home = tmp_path_factory.mktemp("home")
    return {
        name: write_tiny_pipeline(home / name, name=name, base=16, upsampled=64) for name in NAMES
    }


class Loads:
    """The real loading, counted; it fails for want of room while `failures` lasts."""

    def __init__(self, failures: int = 0) -> None:
        self.names: list[str] = []
        self.failures = failures

    def __call__(self, spec: PipelineSpec) -> Pipeline:
        if self.failures:
            self.failures -= 1
            raise torch.OutOfMemoryError("no room")
        self.names.append(spec.name)
        return Pipeline.load(spec, torch.device("cpu"), torch.float32)


def _size(spec: PipelineSpec) -> int:
    return footprint(spec).bytes["float32"]


@pytest.fixture
def shelf_of(specs: dict[str, PipelineSpec]) -> Callable[[Loads, Bounds], Shelf]:
    return lambda loads, bounds: Shelf(specs, loads, _size, bounds, "cpu")


ShelfOf = Callable[[Loads, Bounds], Shelf]


def test_nothing_is_loaded_before_it_is_needed_and_then_once(shelf_of: ShelfOf) -> None:
    loads = Loads()
    shelf = shelf_of(loads, Bounds())
    assert shelf.names == NAMES
    assert not shelf.loaded
    assert shelf.get("b") is shelf.get("b")
    assert loads.names == ["b"]
    assert shelf.loaded == ("b",)


def test_the_least_recently_used_goes_first_and_frees_its_memory(shelf_of: ShelfOf) -> None:
    shelf = shelf_of(Loads(), Bounds(count=2))
    shelf.get("a")
    gone = weakref.ref(shelf.get("b"))
    shelf.get("a")
    shelf.get("c")
    assert shelf.loaded == ("a", "c")
    gc.collect()
    assert gone() is None


def test_bytes_bound_what_is_loaded(shelf_of: ShelfOf, specs: dict[str, PipelineSpec]) -> None:
    each = _size(specs["a"])
    shelf = shelf_of(Loads(), Bounds(bytes=2 * each))
    for name in NAMES:
        shelf.get(name)
    assert shelf.loaded == ("b", "c")
    with pytest.raises(UnsupportedSampling, match="GLIDE_WORKER__MAX_LOADED_BYTES"):
        shelf_of(Loads(), Bounds(bytes=each - 1)).get("a")


def test_what_is_in_use_never_goes(shelf_of: ShelfOf) -> None:
    shelf = shelf_of(Loads(), Bounds(count=2))
    shelf.get("a")
    shelf.get("b")
    assert shelf.has_room("c", {"a"})
    assert not shelf.has_room("c", {"a", "b"})
    assert shelf.has_room("b", {"a", "b"})
    with pytest.raises(UnsupportedSampling):
        shelf.get("c", {"a", "b"})
    assert shelf.loaded == ("a", "b")
    shelf.get("c", {"a"})
    assert shelf.loaded == ("a", "c")


def test_a_full_device_is_tried_again_without_the_idle_ones(shelf_of: ShelfOf) -> None:
    loads = Loads()
    shelf = shelf_of(loads, Bounds())
    shelf.get("a")
    shelf.get("b")
    loads.failures = 1
    shelf.get("c", {"b"})
    assert shelf.loaded == ("b", "c")
    loads.failures = 2
    with pytest.raises(torch.OutOfMemoryError):
        shelf.get("a")


def test_a_pipeline_that_cannot_be_loaded_leaves_the_others(
    shelf_of: ShelfOf, specs: dict[str, PipelineSpec], tmp_path: Path
) -> None:
    broken = replace(specs["a"], name="broken", folder=tmp_path)
    shelf = Shelf({**specs, "broken": broken}, Loads(), _size, Bounds(bytes=10**9), "cpu")
    shelf.get("a")
    assert shelf.has_room("broken", {"a"})  # it needs none: loading it says what is wrong
    with pytest.raises(CheckpointError, match="broken is missing"):
        shelf.get("broken", {"a"})
    with pytest.raises(UnsupportedSampling, match="there are: a, b, broken, c"):
        shelf.get("nothing")
    assert shelf.loaded == ("a",)


def test_the_footprint_is_what_the_networks_take(specs: dict[str, PipelineSpec]) -> None:
    spec = specs["a"]
    pipeline = Pipeline.load(spec, torch.device("cpu"), torch.float32)
    networks = [pipeline.denoiser(stage.name) for stage in spec.stages]
    tensors = [tensor for each in networks for tensor in each.state_dict().values()]
    found = footprint(spec)
    assert found.parameters == sum(tensor.numel() for tensor in tensors)
    assert found.bytes["float32"] == sum(tensor.nbytes for tensor in tensors)
    assert found.bytes["float16"] < found.bytes["float32"]


def test_an_engine_serves_more_pipelines_than_fit(specs: dict[str, PipelineSpec]) -> None:
    runner = ModelRunner.load(specs.values(), "cpu", "float32", Bounds(count=1))
    engine = Engine(runner, max_batch=4)
    assert (runner.models, runner.loaded, runner.device) == (NAMES, (), "cpu")
    waiting = [replace(DRAWING, model=name) for name in NAMES]
    order = []
    while waiting or engine.trajectories:
        if waiting and engine.has_room(waiting[0]):
            params = waiting.pop(0)
            engine.add(params.model, params)
            assert runner.loaded == (params.model,)
        elif waiting:
            assert engine.trajectories  # who waits does so for somebody
        order += engine.step().finished
    assert order == list(NAMES)
