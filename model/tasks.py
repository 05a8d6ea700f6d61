"""Which inputs each task takes, and which of them a pipeline can serve. Torch-free.

Everything of a request but its numbers: pictures, seeds, labels, guides, ranking. Each check is a
field, whether it is well, and the sentence for when it isn't. Knows of a pipeline only `Serving`.
"""

from collections.abc import Iterator
from typing import Literal, Protocol

from model.params import MAX_SEED, SamplingParams, Task

Check = tuple[str, bool, str]
"""A field, whether it is well, and the sentence for when it isn't."""

GuideKind = Literal["clip", "classifier"]

PICTURED = (Task.INPAINT, Task.VARIATION, Task.UPSCALE)
"""The tasks that start from a picture."""


class Serving(Protocol):
    """What a pipeline can do, as far as its inputs go."""

    @property
    def name(self) -> str:
        """Of the pipeline."""
        ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of its stages' images, px."""
        ...

    @property
    def context(self) -> int:
        """Caption length in tokens; 0 where it reads none."""
        ...

    @property
    def classes(self) -> int:
        """How many classes a label may name."""
        ...

    @property
    def max_guidance_scale(self) -> float:
        """Largest scale of any guidance."""
        ...

    @property
    def max_drawn(self) -> int:
        """Largest `best_of`."""
        ...

    def guided_by(self, kind: GuideKind) -> bool:
        """Whether it has a guide of that kind."""
        ...


def task_checks(serving: Serving, params: SamplingParams, *, ranking: bool) -> Iterator[Check]:
    """Every check of a request's inputs.

    Args:
        serving: the pipeline.
        params: the request.
        ranking: whether there is a CLIP beside the pipeline's own that ranks images.
    """
    yield from _picture_checks(serving, params)
    yield from _seed_checks(params)
    yield from _conditioning_checks(serving, params)
    yield from _guide_checks(serving, params)
    yield from _best_of_checks(serving, params, ranking)


def _picture_checks(serving: Serving, params: SamplingParams) -> Iterator[Check]:
    task = params.task
    if task in PICTURED:
        yield "image", params.image is not None, f"{task} starts from a picture: give one"
    else:
        takers = ", ".join(PICTURED)
        yield (
            "image",
            params.image is None,
            f"{task} takes no picture: leave it out, or ask for one of {takers}",
        )
    masked = task is Task.INPAINT or params.mask is None
    yield "mask", masked, f"{task} takes no mask: leave it out, or ask for inpaint"
    if task is Task.VARIATION:
        yield "strength", 0 < params.strength <= 1, "in (0, 1]; 1 keeps nothing of the picture"
    if task is Task.UPSCALE:
        side, largest = serving.sizes[0], serving.sizes[-1]
        cascade = f"{serving.name} has no second stage, so it can't upscale"
        yield "task", len(serving.sizes) > 1, cascade
        larger = f"{largest}: upscale passes the second stage, which makes more of {side} px"
        yield "width", params.width != side or len(serving.sizes) == 1, larger


def _seed_checks(params: SamplingParams) -> Iterator[Check]:
    if params.task is not Task.INTERPOLATION:
        alone = f"{params.task} has one seed: leave seed_to out, or ask for interpolation"
        yield "seed_to", params.seed_to is None, alone
        return
    there = params.seed_to is not None and 0 <= params.seed_to <= MAX_SEED
    yield "seed_to", there, "interpolation goes from seed to seed_to, between 0 and 2**63 - 1"
    yield "n", params.n >= 2, "interpolation has n frames, at least 2 with both ends"
    yield "best_of", params.best_of is None, "interpolation keeps all its frames: leave it out"


def _conditioning_checks(serving: Serving, params: SamplingParams) -> Iterator[Check]:
    label, last = params.label, serving.classes - 1
    if not serving.classes:
        wordy = f"{serving.name} has no classes: leave it out and say it in the prompt"
        yield "label", label is None, wordy
    elif label is not None or not serving.context:
        known = label is not None and 0 <= label <= last
        yield "label", known, f"a class of {serving.name}, from 0 to {last}"
    if serving.context:
        return
    instead = f" and give a label from 0 to {last}" if serving.classes else ""
    silent = f"{serving.name} reads no captions: leave it empty{instead}"
    yield "prompt", not params.prompt, silent
    yield "negative_prompt", not params.negative_prompt, silent
    yield (
        "guidance_scale",
        params.guidance_scale == 1,
        f"1: {serving.name} reads no captions, so there is none to leave out; a classifier can "
        "guide it, see classifier_guidance_scale",
    )


def _guide_checks(serving: Serving, params: SamplingParams) -> Iterator[Check]:
    scales = {
        "clip_guidance_scale": params.clip_guidance_scale,
        "classifier_guidance_scale": params.classifier_guidance_scale,
    }
    if not any(scales.values()):
        return
    bounds = f"a finite number between 0 and {serving.max_guidance_scale:g}"
    for name, scale in scales.items():
        yield name, 0 <= scale <= serving.max_guidance_scale, bounds
        skipped = f"0: it guides the base stage, which {params.task} skips"
        yield name, not scale or params.task is not Task.UPSCALE, skipped
    none = f"0: {serving.name} has no {{}}; `glide models` lists the pipelines that have one"
    clip, classifier = scales.values()
    without_clip = none.format("noised CLIP")
    yield "clip_guidance_scale", not clip or serving.guided_by("clip"), without_clip
    spoken = "0, or give a prompt: CLIP compares the image with it"
    yield "clip_guidance_scale", not clip or bool(params.prompt), spoken
    classified = serving.guided_by("classifier")
    unclassified = none.format("noised classifier")
    yield "classifier_guidance_scale", not classifier or classified, unclassified
    aimless = "0, or give the label that the classifier is to see"
    labelled = params.label is not None or not classified
    yield "classifier_guidance_scale", not classifier or labelled, aimless


def _best_of_checks(serving: Serving, params: SamplingParams, ranking: bool) -> Iterator[Check]:
    if params.best_of is None:
        return
    yield (
        "best_of",
        params.n <= params.best_of <= serving.max_drawn,
        f"between n, which is {params.n}, and {serving.max_drawn}",
    )
    yield (
        "best_of",
        ranking or serving.guided_by("clip"),
        f"{serving.name} has no CLIP to rank images with: leave it out, or let the operator set "
        "GLIDE_MODELS__CLIP to the folder of one",
    )
    yield "best_of", bool(params.prompt), "leave it out, or give a prompt to rank images by"
    unknown = "0 with best_of: which images stay is known at the end"
    yield "previews", not params.previews, unknown
