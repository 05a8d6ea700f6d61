"""What one request asks for: the same frozen object in HTTP, in Redis and on the device.

Knows no pipeline: whether a pipeline can serve a request is `model.catalog`'s business.
"""

from dataclasses import dataclass
from enum import StrEnum

MAX_SEED = 2**63 - 1
MAX_PROMPT_CHARACTERS = 32_000


class SamplerName(StrEnum):
    """The samplers a request may name."""

    DDPM = "ddpm"
    DDIM = "ddim"
    DPMPP_2M = "dpmpp_2m"


class Thresholding(StrEnum):
    """What happens to x̂₀ before the update: nothing, a clamp to [-1, 1], or Imagen's quantile."""

    NONE = "none"
    STATIC = "static"
    DYNAMIC = "dynamic"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsampleParams:
    """How the second stage samples; None means the pipeline's own default.

    Attributes:
        steps: a number of steps, or a respacing string such as `fast27`.
        sampler: the stage's sampler.
        temperature: standard deviation of the stage's initial noise.
    """

    steps: int | str | None = None
    sampler: SamplerName | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """One request. `steps`, `sampler`, `guidance_scale` and `eta` are the base stage's.

    Attributes:
        prompt: the caption; empty means unconditional.
        negative_prompt: replaces the empty caption in classifier-free guidance.
        model: name of a pipeline of the catalog.
        width: width of the finished image, px.
        height: height of the finished image, px.
        n: number of images; image k has seed + k.
        seed: 0 … 2**63 - 1.
        steps: a number of steps, or a respacing string such as `25,25` or `ddim50`.
        sampler: the base stage's sampler.
        guidance_scale: s in ε = ε_∅ + s (ε_c - ε_∅); 1 turns guidance off.
        guidance_interval: (low, high), fractions of the trained timesteps between which guidance
            acts; 1 is pure noise (Kynkäänniemi et al. 2024, arXiv:2404.07724).
        eta: DDIM's stochasticity, 0 … 1.
        thresholding: what bounds x̂₀.
        dynamic_percentile: the quantile of |x̂₀| for dynamic thresholding, in (0, 1].
        upsample: overrides of the second stage.
        previews: number of x̂₀ previews to publish for each image while it is denoised.
    """

    prompt: str = ""
    negative_prompt: str = ""
    model: str = "scenes"
    width: int = 256
    height: int = 256
    n: int = 1
    seed: int = 0
    steps: int | str = 20
    sampler: SamplerName = SamplerName.DPMPP_2M
    guidance_scale: float = 3.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    eta: float = 0.0
    thresholding: Thresholding = Thresholding.STATIC
    dynamic_percentile: float = 0.995
    upsample: UpsampleParams = UpsampleParams()
    previews: int = 0
