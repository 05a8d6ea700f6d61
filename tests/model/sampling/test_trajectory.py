import json
import struct

import pytest
import torch

from model.diffusion.prediction import Parameterization
from model.diffusion.schedule import noise_schedule
from model.errors import SnapshotError
from model.params import SamplerName
from model.sampling.noise import initial_noise
from model.sampling.plan import build_plan
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory
from tests.model.sampling.toy_network import ToyDenoiser, caption

SCHEDULE = noise_schedule("cosine", 1000)
PARAMETERIZATION = Parameterization("epsilon", "learned_range", SCHEDULE)


def prepare(
    sampler: SamplerName = SamplerName.DPMPP_2M, steps: int = 6, seed: int = 3, stage: int = 0
) -> Trajectory:
    return Trajectory(
        plan=build_plan(sampler, SCHEDULE, steps, eta=0.5, variance="learned_range"),
        x=initial_noise(seed, stage, (3, 8, 8), 1.0),
        conditioning=caption(0.4, -0.3),
        unconditional=caption(0.0, 0.0),
        guidance_scale=3.0,
        seed=seed,
        stage_index=stage,
    )


def run(trajectory: Trajectory, steps: int) -> None:
    denoiser = ToyDenoiser()
    for _ in range(steps):
        denoise_step(denoiser, [trajectory], PARAMETERIZATION)


@pytest.mark.parametrize("sampler", SamplerName)
@pytest.mark.parametrize("at", range(7))
def test_a_resumed_image_equals_an_uninterrupted_one(sampler: SamplerName, at: int) -> None:
    uninterrupted, stopped, resumed = (prepare(sampler) for _ in range(3))
    run(uninterrupted, 6)
    run(stopped, at)
    resumed.restore(stopped.to_snapshot())
    assert resumed.step == at
    run(resumed, 6 - at)
    assert resumed.done
    assert torch.equal(resumed.x, uninterrupted.x)


def test_a_snapshot_is_a_header_and_raw_float32() -> None:
    trajectory = prepare()
    run(trajectory, 2)
    snapshot = trajectory.to_snapshot()
    magic, length = struct.unpack_from("<4sI", snapshot)
    header = json.loads(snapshot[8 : 8 + length])
    assert magic == b"GLTR"
    assert (header["version"], header["step"], header["history"]) == (1, 2, 1)
    planes = torch.frombuffer(bytearray(snapshot[8 + length :]), dtype=torch.float32)
    wanted = torch.stack([trajectory.x, *trajectory.history])
    assert torch.equal(planes.reshape(wanted.shape), wanted)


def damaged() -> dict[str, bytes]:
    trajectory = prepare()
    run(trajectory, 2)
    good = trajectory.to_snapshot()
    length = struct.unpack_from("<4sI", good)[1]
    header = json.loads(good[8 : 8 + length])

    def with_header(**changes: object) -> bytes:
        encoded = json.dumps(header | changes).encode()
        return struct.pack("<4sI", b"GLTR", len(encoded)) + encoded + good[8 + length :]

    return {
        "empty": b"",
        "cut": good[:-4],
        "cut in the header": good[:20],
        "a bit flipped": good[:-1] + bytes([good[-1] ^ 1]),
        "another format": b"PNG!" + good[4:],
        "no header": struct.pack("<4sI", b"GLTR", 2) + b"[]",
        "newer": with_header(version=2),
        "step out of range": with_header(step=7),
        "step of another type": with_header(step="2"),
        "too little history": with_header(history=0),
        "too much history": with_header(history=2),
    }


@pytest.mark.parametrize("fault", damaged())
def test_a_damaged_snapshot_is_refused_and_changes_nothing(fault: str) -> None:
    trajectory = prepare()
    before = trajectory.x
    with pytest.raises(SnapshotError):
        trajectory.restore(damaged()[fault])
    assert trajectory.x is before
    assert (trajectory.step, trajectory.history) == (0, ())


@pytest.mark.parametrize(
    "other", [prepare(seed=4), prepare(stage=1), prepare(steps=7), prepare(SamplerName.DDIM)]
)
def test_a_snapshot_of_another_run_is_refused(other: Trajectory) -> None:
    trajectory = prepare()
    run(trajectory, 2)
    with pytest.raises(SnapshotError):
        other.restore(trajectory.to_snapshot())


def test_only_the_history_that_a_plan_uses_is_kept() -> None:
    for sampler, depth in (
        (SamplerName.DDPM, 0),
        (SamplerName.DDIM, 0),
        (SamplerName.DPMPP_1, 0),
        (SamplerName.DPMPP_2M, 1),
        (SamplerName.DPMPP_2M_SDE, 1),
        (SamplerName.DPMPP_3M, 2),
        (SamplerName.UNIPC, 2),
        (SamplerName.UNIPC_3, 3),
    ):
        trajectory = prepare(sampler)
        assert trajectory.plan.history == depth
        run(trajectory, 3)
        assert len(trajectory.history) == depth
