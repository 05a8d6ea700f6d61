"""What a sampler looks like to a client."""

from typing import Literal

from pydantic import BaseModel, Field

from service.views.words import SamplerWord


class PaperView(BaseModel):
    """Where a sampler comes from."""

    title: str
    authors: str
    year: int
    arxiv: str = Field(description="its number")
    url: str


class SamplerView(BaseModel):
    """A sampler."""

    id: SamplerWord
    object: Literal["sampler"] = "sampler"
    title: str = Field(description="its name among people")
    order: int = Field(description="of its error in the step size")
    stochastic: bool = Field(description="whether its steps draw noise")
    takes_eta: bool = Field(description="whether `eta` above 0 makes it stochastic")
    history: int = Field(description="predictions of earlier steps that a step uses")
    default_steps: int = Field(
        description="what it does well in; a request that names no steps gets its model's"
    )
    paper: PaperView


class SamplerList(BaseModel):
    """All samplers."""

    object: Literal["list"] = "list"
    data: list[SamplerView]
