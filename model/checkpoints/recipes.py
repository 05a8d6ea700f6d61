"""How each of OpenAI's released networks is sampled, and which of them make a pipeline. Torch-free.

A network file says nothing of its noise schedule or its recipe. Sources: GLIDE's and ADM's released
sampling notebooks and scripts; Nichol et al. 2021 (arXiv:2112.10741), Dhariwal & Nichol 2021
(arXiv:2105.05233). Knows no tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from model.catalog import GuideSpec, PipelineSpec, StageName, StageSpec
from model.errors import CheckpointError
from model.params import SamplerName

IMAGENET_CLASSES = 1000
CLIP = ("glide-clip-image", "glide-clip-text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is known of a network of the cascade beside its weights.

    Attributes:
        resolution: side of its image, px.
        low: side of the image it enlarges, px; None for a base.
        schedule: its noise schedule.
        sampler: its published sampler.
        steps: its published steps.
        temperature: standard deviation of its initial noise.
        text: it reads captions, of 128 tokens.
        inpainting: it has the input channels for a kept part.
        classes: it draws classes.
        guidance_scale: of classifier-free guidance.
    """

    resolution: int
    low: int | None = None
    schedule: Literal["cosine", "linear"] = "linear"
    sampler: SamplerName = SamplerName.DDPM
    steps: str = "250"
    temperature: float = 1.0
    text: bool = False
    inpainting: bool = False
    classes: int = 0
    guidance_scale: float = 1.0

    @property
    def stage(self) -> StageName:
        """Its place in the cascade."""
        return "base" if self.low is None else "upsample"

    def follows(self, base: "Recipe") -> bool:
        """Whether this second stage fits a first one."""
        kind = (self.text, self.inpainting, self.low)
        return kind == (base.text, base.inpainting, base.resolution)


_BASE = Recipe(resolution=64, schedule="cosine", steps="100", text=True, guidance_scale=3.0)
_UPSAMPLE = Recipe(
    resolution=256,
    low=64,
    sampler=SamplerName.DDIM,
    steps="fast27",
    temperature=0.997,
    text=True,
)


def _adm(resolution: int, low: int | None = None) -> Recipe:
    return Recipe(resolution=resolution, low=low, classes=IMAGENET_CLASSES)


RECIPES: Mapping[str, Recipe] = {
    "glide-base": _BASE,
    "glide-upsample": _UPSAMPLE,
    "glide-base-inpaint": replace(_BASE, inpainting=True, guidance_scale=5.0),
    "glide-upsample-inpaint": replace(_UPSAMPLE, inpainting=True, sampler=SamplerName.DDPM),
    "adm-64": replace(_adm(64), schedule="cosine"),
    "adm-128": _adm(128),
    "adm-256": _adm(256),
    "adm-512": _adm(512),
    "adm-256-uncond": Recipe(resolution=256),
    "adm-lsun": Recipe(resolution=256, steps="1000"),
    "adm-64-256-upsampler": _adm(256, 64),
    "adm-128-512-upsampler": _adm(512, 128),
}
CLASSIFIERS: Mapping[str, int] = {f"adm-classifier-{side}": side for side in (64, 128, 256, 512)}


def assemble(name: str, folder: Path, files: Mapping[str, str]) -> PipelineSpec:
    """The pipeline that some of OpenAI's networks make together.

    Args:
        name: the pipeline's name.
        folder: where it will lie.
        files: weight file by architecture, as in `StageSpec.weights`.

    Raises:
        CheckpointError: the networks make no pipeline; the message says which would.
    """
    bases = [each for each in files if each in RECIPES and RECIPES[each].low is None]
    seconds = [each for each in files if each in RECIPES and RECIPES[each].low is not None]
    if len(bases) != 1 or len(seconds) > 1:
        found = ", ".join(files) or "none"
        raise CheckpointError(
            f"a pipeline has one base network and at most one upsampler; these are {found}"
        )
    base = RECIPES[bases[0]]
    for second in seconds:
        if not RECIPES[second].follows(base):
            fitting = [each for each, recipe in RECIPES.items() if recipe.follows(base)]
            hint = f"one that does is {fitting[0]}" if fitting else "none of the known ones does"
            raise CheckpointError(f"{second} does not enlarge what {bases[0]} draws: {hint}")
    return PipelineSpec(
        name=name,
        description=_describe(base, bases + seconds),
        folder=folder,
        stages=tuple(_stage(each, files[each]) for each in bases + seconds),
        guidance_scale=base.guidance_scale,
        context=128 if base.text else 0,
        classes=base.classes or (IMAGENET_CLASSES if CLASSIFIERS.keys() & files.keys() else 0),
        guides=_guides(base, files),
    )


def _stage(architecture: str, file: str) -> StageSpec:
    recipe = RECIPES[architecture]
    return StageSpec(
        name=recipe.stage,
        resolution=recipe.resolution,
        schedule=recipe.schedule,
        timesteps=1000,
        prediction="epsilon",
        variance="learned_range",
        sampler=recipe.sampler,
        steps=recipe.steps,
        temperature=recipe.temperature,
        weights=(file,),
        architecture=architecture,
        round_low_res=recipe.low is not None,
    )


def _guides(base: Recipe, files: Mapping[str, str]) -> tuple[GuideSpec, ...]:
    guides = []
    clip = [each for each in CLIP if each in files]
    if clip and (len(clip) < len(CLIP) or base.resolution != 64):
        raise CheckpointError(
            f"CLIP guidance takes both {' and '.join(CLIP)}, and a base network of 64 px"
        )
    if clip:
        guides.append(
            GuideSpec(
                kind="clip", weights=tuple(files[each] for each in CLIP), architecture="glide-clip"
            )
        )
    for architecture in (each for each in files if each in CLASSIFIERS):
        if CLASSIFIERS[architecture] != base.resolution:
            raise CheckpointError(
                f"{architecture} reads images of {CLASSIFIERS[architecture]} px, "
                f"the base network draws {base.resolution} px"
            )
        guides.append(
            GuideSpec(kind="classifier", weights=(files[architecture],), architecture=architecture)
        )
    return tuple(guides)


def _describe(base: Recipe, names: Sequence[str]) -> str:
    """One sentence for people."""
    whose = f"OpenAI's {' and '.join(names)}"
    if base.text:
        doing = "repaints pictures by" if base.inpainting else "pictures from"
        return f"{whose}: {doing} captions."
    return f"{whose}: pictures{' of the classes of ImageNet' if base.classes else ''}."
