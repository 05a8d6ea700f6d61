"""Noise schedules that the first diffusion papers tried, for models that were trained on them.

None of the catalog's pipelines uses one; `model.diffusion.schedule` holds those in use.
"""

from typing import Literal

import numpy as np

from model.diffusion.schedule import FloatArray, NoiseSchedule
from model.errors import UnsupportedSampling

DeprecatedSchedule = Literal["quad", "linear", "warmup10", "warmup50", "const", "jsd"]


def deprecated_betas(
    name: DeprecatedSchedule, timesteps: int, *, beta_start: float, beta_end: float
) -> FloatArray:
    """(T,) float64 β_t by the names of Ho et al. 2020's program.

    `quad` and `linear` go from the first β to the last in √β and in β; `const` is the last one;
    `warmup10` and `warmup50` rise to it in the first 10 and 50 % of the timesteps; `jsd` is
    1/T, 1/(T - 1), … 1 (Sohl-Dickstein et al. 2015, §2.4.1, arXiv:1503.03585).

    Args:
        name: which.
        timesteps: T.
        beta_start: β of the least noisy timestep; `const` and `jsd` do without.
        beta_end: β of the noisiest timestep; `jsd` does without.

    Raises:
        UnsupportedSampling: an unknown name, or a process without timesteps.
    """
    if timesteps < 1:
        raise UnsupportedSampling("a noise schedule needs at least one timestep")
    match name:
        case "quad":
            return np.linspace(beta_start**0.5, beta_end**0.5, timesteps) ** 2
        case "linear":
            return np.linspace(beta_start, beta_end, timesteps)
        case "const":
            return np.full(timesteps, beta_end)
        case "warmup10" | "warmup50":
            rising = int(timesteps * int(name.removeprefix("warmup")) / 100)
            rise = np.linspace(beta_start, beta_end, rising)
            return np.append(rise, np.full(timesteps - rising, beta_end))
        case "jsd":
            return 1 / np.arange(timesteps, 0, -1, dtype=np.float64)
        case _:
            raise UnsupportedSampling(f"no noise schedule is called {name}")


def process_of(betas: FloatArray) -> NoiseSchedule:
    """The process with these single steps.

    Raises:
        UnsupportedSampling: a β outside of (0, 1): `jsd` ends with 1, which leaves nothing of the
            image, so that no network's answer at that timestep says anything of it.
    """
    if betas.size == 0 or not np.all((betas > 0) & (betas < 1)):
        raise UnsupportedSampling("every β of a process must lie between 0 and 1")
    return NoiseSchedule(np.cumprod(1 - betas, dtype=np.float64), betas)
