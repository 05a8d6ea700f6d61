"""Which timesteps a run of few steps visits.

Knows only the length T of the trained process. Every grid is ascending and free of repeats, and
one of a single step is (T - 1,): a run of one step goes from pure noise to the image.
"""

import re

from model.errors import UnsupportedSampling

FAST27_SECTIONS = (10, 10, 3, 2, 2)


def space_timesteps(spec: int | str, timesteps: int) -> tuple[int, ...]:
    """The grid of a step count or a respacing string.

    `N` (or an int) spaces N steps evenly from 0 to T - 1; `a,b,c` divides the process into equal
    sections and spaces so many steps over each; `ddimN` is every i-th timestep from 0, for the
    smallest i that gives N of them (Song et al. 2021, arXiv:2010.02502); `fast27` is GLIDE's grid
    for its second stage (Nichol et al. 2021, arXiv:2112.10741).

    Args:
        spec: a step count or a respacing string.
        timesteps: T, the length of the trained process.

    Raises:
        UnsupportedSampling: not a respacing, or one that this process can't satisfy.
    """
    text = str(spec)
    if text == "fast27":
        return _fast27(timesteps)
    if match := re.fullmatch(r"ddim([1-9]\d*)", text):
        return _strided(int(match[1]), timesteps)
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
        raise UnsupportedSampling(f"{text!r} is not a step count or a respacing like 25,25")
    return _sections(tuple(int(count) for count in text.split(",")), timesteps)


def trailing_timesteps(steps: int, timesteps: int) -> tuple[int, ...]:
    """N steps of equal length that start at T - 1 and leave T / N for the last one, to the image.

    No step is spent on t = 0, where nothing is left to denoise. Lin et al. 2024, table 2
    ("trailing"), arXiv:2305.08891.

    Raises:
        UnsupportedSampling: more steps than timesteps, or none.
    """
    if not 1 <= steps <= timesteps:
        raise UnsupportedSampling(f"between 1 and {timesteps} steps, not {steps}")
    return tuple(round(k * timesteps / steps) - 1 for k in range(1, steps + 1))


def _sections(counts: tuple[int, ...], timesteps: int) -> tuple[int, ...]:
    if counts == (1,):
        return (timesteps - 1,)
    size, longer = divmod(timesteps, len(counts))
    grid: list[int] = []
    start = 0
    for index, count in enumerate(counts):
        section = size + (index < longer)
        if count > section:
            raise UnsupportedSampling(f"can't space {count} steps over {section} timesteps")
        grid += _evenly(start, section, count)
        start += section
    return tuple(grid)


def _evenly(start: int, size: int, count: int) -> list[int]:
    stride = (size - 1) / (count - 1) if count > 1 else 1.0
    grid, position = [], 0.0
    for _ in range(count):
        grid.append(start + round(position))
        position += stride  # ADM adds up, and its grids depend on that rounding
    return grid


def _strided(steps: int, timesteps: int) -> tuple[int, ...]:
    if steps == 1:
        return (timesteps - 1,)
    for stride in range(1, timesteps):
        if len(range(0, timesteps, stride)) == steps:
            return tuple(range(0, timesteps, stride))
    raise UnsupportedSampling(f"no stride visits {steps} of {timesteps} timesteps")


def _fast27(timesteps: int) -> tuple[int, ...]:
    grid = set(_sections(FAST27_SECTIONS, timesteps))
    grid.remove(timesteps - 1)
    grid.add(timesteps - 3)
    return tuple(sorted(grid))
