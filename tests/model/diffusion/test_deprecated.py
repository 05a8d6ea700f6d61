import math
from decimal import Decimal

import numpy as np
import pytest

from model.diffusion.deprecated import DeprecatedSchedule, deprecated_betas, process_of
from model.diffusion.schedule import noise_schedule
from model.errors import UnsupportedSampling

T, FIRST, LAST = 40, 0.0001, 0.02


def line(step: int, steps: int, start: float, end: float) -> float:
    return start + (end - start) * step / (steps - 1)


WANTED: dict[DeprecatedSchedule, list[float]] = {
    "quad": [line(t, T, math.sqrt(FIRST), math.sqrt(LAST)) ** 2 for t in range(T)],
    "linear": [line(t, T, FIRST, LAST) for t in range(T)],
    "const": [LAST] * T,
    "warmup10": [line(t, 4, FIRST, LAST) if t < 4 else LAST for t in range(T)],
    "warmup50": [line(t, 20, FIRST, LAST) if t < 20 else LAST for t in range(T)],
    "jsd": [float(1 / Decimal(T - t)) for t in range(T)],
}


@pytest.mark.parametrize("name", WANTED)
def test_betas_follow_their_formula(name: DeprecatedSchedule) -> None:
    betas = deprecated_betas(name, T, beta_start=FIRST, beta_end=LAST)
    assert np.max(np.abs(betas - WANTED[name])) <= 1e-15


def test_a_warmup_of_part_of_a_timestep_is_rounded_down() -> None:
    betas = deprecated_betas("warmup10", 27, beta_start=FIRST, beta_end=LAST)
    assert betas.tolist() == [FIRST, LAST, *[LAST] * 25]
    assert deprecated_betas("warmup10", 9, beta_start=FIRST, beta_end=LAST).tolist() == [LAST] * 9


def test_their_process_is_the_one_of_the_same_betas() -> None:
    betas = deprecated_betas("linear", 1000, beta_start=FIRST, beta_end=LAST)
    process, wanted = process_of(betas), noise_schedule("linear", 1000)
    assert np.array_equal(process.alpha_bar, wanted.alpha_bar)
    assert np.array_equal(process.betas, wanted.betas)


def test_impossible_ones_are_refused() -> None:
    with pytest.raises(UnsupportedSampling, match="square"):
        deprecated_betas("square", T, beta_start=FIRST, beta_end=LAST)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedSampling, match="at least one"):
        deprecated_betas("jsd", 0, beta_start=FIRST, beta_end=LAST)
    for betas in (WANTED["jsd"], [], [0.1, 0.0]):
        with pytest.raises(UnsupportedSampling, match="between 0 and 1"):
            process_of(np.array(betas))
