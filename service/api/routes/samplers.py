"""The samplers: what a request may name, and the papers behind them."""

from fastapi import APIRouter

from model.params import SamplerName
from model.samplers import SAMPLER_FACTS, SamplerFacts
from service.api.problems import declared
from service.views.sampler import PaperView, SamplerList, SamplerView

router = APIRouter(prefix="/v1/samplers", tags=["models"])


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
