from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from model.diffusion.spacing import space_timesteps, trailing_timesteps
from model.errors import UnsupportedSampling


def assert_is_grid(grid: tuple[int, ...], count: int, timesteps: int) -> None:
    assert len(grid) == count
    assert all(0 <= t < timesteps for t in grid)
    assert all(a < b for a, b in pairwise(grid))


@given(st.data())
def test_a_step_count_gives_that_many_distinct_ascending_timesteps(data: st.DataObject) -> None:
    timesteps = data.draw(st.integers(1, 4000))
    count = data.draw(st.integers(1, timesteps))
    assert_is_grid(space_timesteps(count, timesteps), count, timesteps)
    assert space_timesteps(str(count), timesteps) == space_timesteps(count, timesteps)
    trailing = trailing_timesteps(count, timesteps)
    assert_is_grid(trailing, count, timesteps)
    assert trailing[-1] == timesteps - 1


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6), st.integers(1, 2000))
def test_sections_give_their_counts_or_are_refused(counts: list[int], timesteps: int) -> None:
    spec = ",".join(map(str, counts))
    if max(counts) <= timesteps // len(counts):
        assert_is_grid(space_timesteps(spec, timesteps), sum(counts), timesteps)
    elif max(counts) > -(-timesteps // len(counts)):
        with pytest.raises(UnsupportedSampling):
            space_timesteps(spec, timesteps)
    else:
        assume(False)  # only the longer sections are long enough: either answer is right


@given(st.integers(1, 1200), st.integers(1, 1000))
def test_a_ddim_grid_has_its_count_or_is_refused(count: int, timesteps: int) -> None:
    try:
        grid = space_timesteps(f"ddim{count}", timesteps)
    except UnsupportedSampling:
        strides = {len(range(0, timesteps, stride)) for stride in range(1, timesteps)}
        assert count not in strides
    else:
        assert_is_grid(grid, count, timesteps)


def test_one_step_starts_from_pure_noise() -> None:
    grids = (space_timesteps(spec, 1000) for spec in (1, "1", "ddim1"))
    assert {*grids, trailing_timesteps(1, 1000)} == {(999,)}


def test_the_first_sections_take_what_does_not_divide() -> None:
    assert space_timesteps("2,2,2", 1001) == (0, 333, 334, 667, 668, 1000)


def test_fast27_starts_at_the_third_last_timestep() -> None:
    grid = space_timesteps("fast27", 1000)
    assert_is_grid(grid, 27, 1000)
    assert grid[-1] == 997


def test_trailing_steps_have_one_length() -> None:
    assert trailing_timesteps(5, 1000) == (199, 399, 599, 799, 999)
    assert trailing_timesteps(1000, 1000) == tuple(range(1000))


@pytest.mark.parametrize(
    "spec", [0, -1, 1001, "", "0", "1001", "a", "10,", "10,,10", "ddim", "ddim600", "٣", "600,600"]
)
def test_impossible_spacings_are_refused(spec: int | str) -> None:
    with pytest.raises(UnsupportedSampling):
        space_timesteps(spec, 1000)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_trailing_steps_are_refused(steps: int) -> None:
    with pytest.raises(UnsupportedSampling):
        trailing_timesteps(steps, 1000)
