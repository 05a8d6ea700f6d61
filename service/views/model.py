"""What a model looks like to a client. Knows neither catalog nor routes."""

from typing import Literal

from pydantic import BaseModel, Field

from service.views.words import (
    GuideWord,
    SamplerWord,
    StageWord,
    TaskWord,
    ThresholdingWord,
)


class StageView(BaseModel):
    """One network of the cascade, with its defaults."""

    name: StageWord
    resolution: int = Field(description="px")
    timesteps: int = Field(description="length of the trained process")
    sampler: SamplerWord
    steps: int | str
    temperature: float


class DefaultsView(BaseModel):
    """What a request gets that leaves these out."""

    width: int
    height: int
    n: int
    steps: int | str
    sampler: SamplerWord
    guidance_scale: float
    guidance_interval: tuple[float, float]


class LimitsView(BaseModel):
    """What a request may ask for at most."""

    n: int
    steps: int
    guidance_scale: float
    prompt_characters: int
    prompt_tokens: int = Field(description="what follows them is ignored, with a warning")


class FilesView(BaseModel):
    """The weights on this machine's disk."""

    present: bool = Field(description="whether every weight file is there")
    missing: list[str] = Field(description="names of those that are not")
    problem: str | None = Field(description="what is wrong with one of them")


class ModelView(BaseModel):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix time of its files, s")
    owned_by: str = "glide-service"
    aliases: list[str] = Field(description="other names that requests may call it by")
    description: str
    default: bool = Field(description="serves requests that name no model")
    live: bool = Field(description="whether a worker serves it now")
    workers: int = Field(description="how many do")
    sizes: list[int] = Field(description="sides of its square images, px")
    tasks: list[TaskWord] = Field(description="what it can be asked for")
    guides: list[GuideWord] = Field(
        description="networks that can guide it, beside classifier-free guidance"
    )
    captions: bool = Field(description="whether it reads prompts")
    classes: int = Field(description="how many a label may name; 0: it takes no label")
    parameters: int = Field(description="numbers in all its networks; 0: files are missing")
    memory_bytes: dict[str, int] = Field(
        description="that its weights take, by the worker's dtype; empty: files are missing"
    )
    files: FilesView
    samplers: list[SamplerWord]
    thresholdings: list[ThresholdingWord]
    stages: list[StageView]
    defaults: DefaultsView
    limits: LimitsView


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelView]
