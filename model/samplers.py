"""The samplers as people choose among them: what each is, and the paper it comes from. Torch-free.

The mathematics is in `model.sampling`; what a request gets that names no sampler and no steps is
the pipeline's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from model.params import SamplerName


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a sampler comes from.

    Attributes:
        title: of the paper.
        authors: in its order.
        year: of the first version.
        arxiv: its number.
    """

    title: str
    authors: str
    year: int
    arxiv: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerFacts:
    """What a sampler is.

    Attributes:
        title: its name among people.
        order: of its error in the step size.
        stochastic: whether its steps draw noise.
        takes_eta: whether `eta` above 0 makes it stochastic.
        history: predictions of earlier steps that a step uses.
        steps: a number of steps that it does well in.
        paper: where it comes from.
    """

    title: str
    order: int
    stochastic: bool = False
    takes_eta: bool = False
    history: int = 0
    steps: int
    paper: Paper


_HO = Paper("Denoising Diffusion Probabilistic Models", "Ho, Jain, Abbeel", 2020, "2006.11239")
_SONG = Paper("Denoising Diffusion Implicit Models", "Song, Meng, Ermon", 2020, "2010.02502")
_LU = Paper(
    "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
    "Lu, Zhou, Bao, Chen, Li, Zhu",
    2022,
    "2211.01095",
)
_ZHAO = Paper(
    "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models",
    "Zhao, Bai, Rao, Zhou, Lu",
    2023,
    "2302.04867",
)

SAMPLER_FACTS: Mapping[SamplerName, SamplerFacts] = {
    SamplerName.DDPM: SamplerFacts(
        title="DDPM, ancestral", order=1, stochastic=True, steps=100, paper=_HO
    ),
    SamplerName.DDIM: SamplerFacts(title="DDIM", order=1, takes_eta=True, steps=50, paper=_SONG),
    SamplerName.DPMPP_1: SamplerFacts(title="DPM-Solver++ 1", order=1, steps=50, paper=_LU),
    SamplerName.DPMPP_2M: SamplerFacts(
        title="DPM-Solver++ 2M", order=2, history=1, steps=20, paper=_LU
    ),
    SamplerName.DPMPP_3M: SamplerFacts(
        title="DPM-Solver++ 3M", order=3, history=2, steps=20, paper=_LU
    ),
    SamplerName.DPMPP_2M_SDE: SamplerFacts(
        title="DPM-Solver++ 2M SDE", order=2, stochastic=True, history=1, steps=25, paper=_LU
    ),
    SamplerName.UNIPC: SamplerFacts(title="UniPC-2", order=2, history=2, steps=10, paper=_ZHAO),
    SamplerName.UNIPC_3: SamplerFacts(title="UniPC-3", order=3, history=3, steps=10, paper=_ZHAO),
}
