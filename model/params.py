"""What one request asks for: the same frozen object in HTTP, in Redis and on the device.

Knows no pipeline: whether a pipeline can serve a request is `model.catalog`'s business.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

MAX_SEED = 2**63 - 1
MAX_PROMPT_CHARACTERS = 32_000


class SamplerName(StrEnum):
    """The samplers a request may name."""

    DDPM = "ddpm"
    DDIM = "ddim"
    DPMPP_2M = "dpmpp_2m"
    DPMPP_1 = "dpmpp_1"
    DPMPP_3M = "dpmpp_3m"
    DPMPP_2M_SDE = "dpmpp_2m_sde"
    UNIPC = "unipc"
    UNIPC_3 = "unipc_3"


class GuideName(StrEnum):
    """The networks whose gradient can guide a run: a noised CLIP, a noised classifier."""

    CLIP = "clip"
    CLASSIFIER = "classifier"


class Task(StrEnum):
    """What is made of which inputs.

    GENERATE needs no picture. INPAINT repaints the masked part of one. VARIATION noises a whole one
    and denoises it again (SDEdit: Meng et al. 2022, arXiv:2108.01073). UPSCALE gives one to the
    second stage. INTERPOLATION walks from one seed's noise to another's in n frames.
    """

    GENERATE = "generate"
    INPAINT = "inpaint"
    VARIATION = "variation"
    UPSCALE = "upscale"
    INTERPOLATION = "interpolation"


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
        task: what is made of which inputs.
        image: sha256 (hex) of the picture to start from, for the tasks that need one.
        mask: sha256 (hex) of the mask, for `inpaint`.
        strength: for `variation`: the share of the process that is run again, in (0, 1].
        seed_to: for `interpolation`: the seed of the last frame.
        label: class of a class-conditional pipeline.
        clip_guidance_scale: of the gradient of a noised CLIP (Nichol et al. 2021, §2.3); 0: none.
        classifier_guidance_scale: of the gradient of a noised classifier (Dhariwal & Nichol 2021,
            §4); 0: none.
        best_of: images to draw, of which the `n` that a CLIP ranks highest are kept; None: n.
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
    task: Task = Task.GENERATE
    image: str | None = None
    mask: str | None = None
    strength: float = 0.6
    seed_to: int | None = None
    label: int | None = None
    clip_guidance_scale: float = 0.0
    classifier_guidance_scale: float = 0.0
    best_of: int | None = None

    @property
    def drawn(self) -> int:
        """How many images are denoised; `n` of them are kept."""
        return self.n if self.best_of is None else self.best_of


def steps_at_strength(steps: int, strength: float) -> int:
    """⌈strength · steps⌉, at least 1: what is left of a run that starts from a picture.

    Args:
        steps: of the whole run.
        strength: the share of the process that is run again, in (0, 1].
    """
    rounded_up = math.ceil(round(strength * steps, 9))  # 0.55 · 20 is more than 11 in floats
    return min(max(rounded_up, 1), steps)
