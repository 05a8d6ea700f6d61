"""A two-stage pipeline without weights: all that an API process needs of one."""

from pathlib import Path
from typing import Literal

from model.catalog import PipelineSpec, StageSpec
from model.params import SamplerName
from model.text.tokenizer import CaptionTokenizer, word_tokenizer

WORDS = ("a", "red", "apple", "on", "the", "grass")


def tiny_spec(folder: Path, name: str = "tiny") -> PipelineSpec:
    """12 steps at 64 px, 27 at 256 px, captions of 6 tokens."""
    return PipelineSpec(
        name=name,
        description="For tests.",
        folder=folder,
        stages=(_stage("base", 64, 12), _stage("upsample", 256, "fast27")),
        guidance_scale=2.5,
        guidance_interval=(0.1, 0.9),
        context=6,
    )


def tiny_tokenizer(spec: PipelineSpec) -> CaptionTokenizer:
    """Knows `WORDS`."""
    return CaptionTokenizer(word_tokenizer(WORDS), spec.context)


def _stage(name: Literal["base", "upsample"], resolution: int, steps: int | str) -> StageSpec:
    base = name == "base"
    return StageSpec(
        name=name,
        resolution=resolution,
        schedule="cosine",
        timesteps=1000,
        prediction="x0",
        variance="fixed_small",
        sampler=SamplerName.DPMPP_2M if base else SamplerName.DDIM,
        steps=steps,
        temperature=1.0 if base else 0.9,
    )
