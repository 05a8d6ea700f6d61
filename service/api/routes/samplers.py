"""The samplers: what a request may name, and the papers behind them."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from model.params import SamplerName
from model.samplers import SAMPLER_FACTS, SamplerFacts
from service.api.problems import declared

router = APIRouter(prefix="/v1/samplers", tags=["models"])


class PaperView(BaseModel):
    """Where a sampler comes from."""

    title: str
    authors: str
    year: int
    arxiv: str = Field(description="its number")
    url: str


class SamplerView(BaseModel):
    """A sampler."""

    id: SamplerName
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


@router.get("", responses=declared())
async def list_samplers() -> SamplerList:
    """Every sampler that a request may name; every model takes all of them."""
    return SamplerList(data=[_view(name, facts) for name, facts in SAMPLER_FACTS.items()])


def _view(name: SamplerName, facts: SamplerFacts) -> SamplerView:
    paper = facts.paper
    return SamplerView(
        id=name,
        title=facts.title,
        order=facts.order,
        stochastic=facts.stochastic,
        takes_eta=facts.takes_eta,
        history=facts.history,
        default_steps=facts.steps,
        paper=PaperView(
            title=paper.title,
            authors=paper.authors,
            year=paper.year,
            arxiv=paper.arxiv,
            url=f"https://arxiv.org/abs/{paper.arxiv}",
        ),
    )
