"""What a run starts from, other than plain noise: a noised picture, or a mixture of two noises.

Knows no network and no request.
"""

import math

from torch import Tensor

from model.diffusion.schedule import NoiseSchedule
from model.sampling.noise import initial_noise
from model.sampling.plan import SamplingPlan


def start_from(
    x_0: Tensor,
    plan: SamplingPlan,
    schedule: NoiseSchedule,
    *,
    seed: int,
    stage: int,
    temperature: float = 1.0,
) -> Tensor:
    """(C, H, W) a picture noised to a plan's first timestep: Meng et al. 2022, arXiv:2108.01073.

    The noise is the one that the trajectory of that seed and stage would start from.

    Args:
        x_0: (C, H, W) in [-1, 1].
        plan: of the trajectory, built with the strength that is wanted.
        schedule: the trained process.
        seed: of the trajectory.
        stage: index of the stage.
        temperature: standard deviation of the noise.
    """
    alpha_bar = float(schedule.alpha_bar[plan.timesteps[0]])
    noise = initial_noise(seed, stage, tuple(x_0.shape), temperature).to(x_0)
    return math.sqrt(alpha_bar) * x_0 + math.sqrt(1 - alpha_bar) * noise


def slerp(a: Tensor, b: Tensor, fraction: float) -> Tensor:
    """The noise at a fraction of the arc from `a` to `b`; a straight mixture would be too quiet.

    Shoemake 1985, "Animating rotation with quaternion curves". The ends are `a` and `b` to the bit.

    Args:
        a: any shape.
        b: as `a`.
        fraction: 0 … 1.
    """
    assert a.shape == b.shape
    assert 0 <= fraction <= 1
    u, v = a.double().flatten(), b.double().flatten()
    cosine = float(u @ v / (u.norm() * v.norm()).clamp(min=1e-300))
    angle = math.acos(min(max(cosine, -1.0), 1.0))
    if math.sin(angle) < 1e-6:  # (nearly) one direction: the arc is the straight line
        first, second = 1 - fraction, fraction
    else:
        first = math.sin((1 - fraction) * angle) / math.sin(angle)
        second = math.sin(fraction * angle) / math.sin(angle)
    mixture: Tensor = first * a.double() + second * b.double()
    return mixture.to(a.dtype)
