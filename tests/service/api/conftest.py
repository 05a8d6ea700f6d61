from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from model.catalog import PipelineSpec, StageSpec
from model.params import SamplerName
from model.text.tokenizer import CaptionTokenizer, word_tokenizer

WORDS = ("a", "red", "apple", "on", "the", "grass")


def stage(name: Any, resolution: int, steps: int | str) -> StageSpec:
    return StageSpec(
        name=name,
        resolution=resolution,
        schedule="cosine",
        timesteps=1000,
        prediction="x0",
        variance="fixed_small",
        sampler=SamplerName.DPMPP_2M if name == "base" else SamplerName.DDIM,
        steps=steps,
        temperature=1.0 if name == "base" else 0.9,
    )


@pytest.fixture
def spec(tmp_path: Path) -> PipelineSpec:
    return PipelineSpec(
        name="tiny",
        description="For tests.",
        folder=tmp_path,
        stages=(stage("base", 64, 12), stage("upsample", 256, "fast27")),
        guidance_scale=2.5,
        guidance_interval=(0.1, 0.9),
        context=6,
    )


@pytest.fixture
def tokenizer(spec: PipelineSpec) -> CaptionTokenizer:
    words: Tokenizer = word_tokenizer(WORDS)
    return CaptionTokenizer(words, spec.context)
