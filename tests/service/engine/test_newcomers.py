"""One tenant floods the engine, another comes: on a simulated clock, with a scripted device."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.catalog import total_work
from model.params import SamplingParams
from model.pipeline import Pipeline
from model.sampling.trajectory import Trajectory
from service.engine.engine import Engine, StepOutput
from service.engine.runner import ModelRunner
from service.engine.scheduler import BatchKey
from tests.tiny_pipeline import write_tiny_pipeline

SMALL = SamplingParams(prompt="a red apple", model="a", width=16, height=16, steps=4)
KINDS = {
    1: [SMALL],
    2: [SMALL, replace(SMALL, width=64, height=64)],
    4: [
        replace(SMALL, model=model, width=side, height=side) for model in "ab" for side in (16, 64)
    ],
}
"""Requests that together need so many batch keys."""
MAX_BATCH = 4


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pipeline]:
    folder: Path = tmp_path_factory.mktemp("tiny")
    specs = [write_tiny_pipeline(folder / n, name=n, base=16, upsampled=64) for n in "ab"]
    return {spec.name: Pipeline.load(spec, torch.device("cpu"), torch.float32) for spec in specs}


class ScriptedDevice(ModelRunner):
    """The real runner on a device that draws nothing and takes as long for a step as it is told."""

    def __init__(self, pipelines: dict[str, Pipeline], durations: Sequence[float]) -> None:
        super().__init__(pipelines)
        self._durations = durations
        self.step_ends = [0.0]

    def run(self, key: BatchKey, trajectories: Sequence[Trajectory]) -> int:
        duration = self._durations[len(self.step_ends) % len(self._durations)]
        self.step_ends.append(self.step_ends[-1] + duration)
        for trajectory in trajectories:
            trajectory.advance(trajectory.x, trajectory.x)
        return len(trajectories)

    @property
    def now(self) -> float:
        return self.step_ends[-1]


@dataclass
class FloodedWorker:
    """An engine whose room is always full with one tenant's jobs, of a queue that never ends."""

    device: ScriptedDevice
    kinds: list[SamplingParams]
    jobs: int = 0
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = Engine(self.device, MAX_BATCH)

    def step(self) -> StepOutput:
        while self.engine.trajectories < 2 * MAX_BATCH:
            params = replace(self.kinds[self.jobs % len(self.kinds)], n=1 + self.jobs % 3)
            self.engine.add(f"flood {self.jobs}", params, tenant="flood")
            self.jobs += 1
        return self.engine.step()


durations = st.lists(st.sampled_from([0.02, 0.1, 0.5]), min_size=1, max_size=5)
arrivals = st.lists(st.floats(0.5, 3.0), min_size=1, max_size=4)


@pytest.mark.parametrize("keys", [1, 2, 4])
@given(data=st.data(), durations=durations, pauses=arrivals)
def test_a_full_batch_delays_anothers_single_job_by_at_most_two_steps(
    pipelines: dict[str, Pipeline],
    keys: int,
    data: st.DataObject,
    durations: list[float],
    pauses: list[float],
) -> None:
    device = ScriptedDevice(pipelines, durations)
    worker = FloodedWorker(device, KINDS[keys])
    worker.step()
    for number, pause_s in enumerate(pauses):
        arrival = device.now + pause_s
        while device.now < arrival:
            worker.step()
        under_way = len(device.step_ends) - 1  # the step in which the job came ends now
        job_id = f"single {number}"
        worker.engine.add(job_id, data.draw(st.sampled_from(KINDS[keys])), tenant="other")
        output = worker.step()
        while job_id not in output.started:
            output = worker.step()
        first = len(device.step_ends) - 1
        assert output.started[job_id] == first - under_way - 1
        assert first - under_way <= 2
        while job_id in worker.engine.jobs:
            worker.step()


def test_the_work_of_the_steps_adds_up_to_the_works_price(
    pipelines: dict[str, Pipeline],
) -> None:
    for params in (replace(SMALL, n=2, width=64, height=64), replace(SMALL, guidance_scale=1.0)):
        engine = Engine(ScriptedDevice(pipelines, [0.1]), MAX_BATCH)
        engine.add("job", params)
        work = 0
        while engine.trajectories:
            work += engine.step().work
        assert work == total_work(pipelines["a"].spec, params)
