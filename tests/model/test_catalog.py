from dataclasses import replace
from pathlib import Path

import pytest

from model.catalog import RESPACING, PipelineSpec, step_count, total_steps
from model.params import SamplingParams, UpsampleParams
from tests.service.tiny_spec import tiny_spec


@pytest.fixture
def spec(tmp_path: Path) -> PipelineSpec:
    return tiny_spec(tmp_path)


@pytest.mark.parametrize(
    ("steps", "count"), [(1, 1), (250, 250), ("100", 100), ("25,25", 50), ("ddim50", 50)]
)
def test_a_respacing_counts_as_the_sum_of_its_numbers(steps: int | str, count: int) -> None:
    assert step_count(steps) == count


def test_fast27_is_twenty_seven_steps() -> None:
    assert step_count("fast27") == 27


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "1,", ",1", "1,,1", "ddim", "ddim0", "fast", "fast28", "1e3", " 5", "5\n"],
)
def test_what_is_no_respacing_is_told_apart(text: str) -> None:
    assert not RESPACING.fullmatch(text)


def test_a_request_takes_the_steps_of_all_its_images_in_all_their_stages(
    spec: PipelineSpec,
) -> None:
    params = SamplingParams(model=spec.name, steps="25,25", n=3)
    assert total_steps(spec, params) == 3 * (50 + 27)
    assert total_steps(spec, replace(params, upsample=UpsampleParams(steps=4))) == 3 * (50 + 4)
    assert total_steps(spec, replace(params, width=64, height=64)) == 3 * 50


def test_a_size_that_the_pipeline_lacks_has_no_steps(spec: PipelineSpec) -> None:
    with pytest.raises(ValueError, match="not in"):
        total_steps(spec, SamplingParams(model=spec.name, width=128, height=128))
