"""Which sampler, steps and guidance draw what the caption says, by the pipeline's own CLIP.

    python -m benchmarks.sweep

Every setting draws the same captions of the validation split, none of which is on the sample sheet,
in base-stage pictures. The noised CLIP, at t = 0, is asked how often a picture's own caption is the
likeliest of all. It is a judge of modest skill, so its rate on rendered pictures stands beside.
Writes `benchmarks/results/sweep.json`.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.record import RESULTS
from model.catalog import PipelineSpec, load_catalog, load_spec, with_defaults
from model.guiding import Guides, load_guide, to_signal
from model.networks.clip import NoisedClip
from model.params import SamplerName, Task
from model.scenes.captions import caption
from model.scenes.layout import Scene, sample
from model.scenes.lexicon import CORE
from model.scenes.renderer import SIDE, reduced, render
from model.scenes.sprites import draw_sprites
from model.text.tokenizer import load_tokenizer
from service.engine.engine import Engine
from service.engine.runner import ModelRunner

FIRST = 1000
"""Number of the first scene, beyond those that the sheet was made of."""

RUNS: tuple[tuple[SamplerName, int | str, float], ...] = (
    *((SamplerName.DPMPP_2M, 20, scale) for scale in (1.0, 2.0, 3.0, 4.5)),
    *((SamplerName.DPMPP_2M, "4,5,11", scale) for scale in (2.0, 3.0, 4.5)),
    *((SamplerName.DPMPP_2M, steps, 3.0) for steps in (10, 40, "3,6,11", "6,6,8")),
    *((SamplerName.DPMPP_2M_SDE, steps, 2.0) for steps in (20, 30, "4,5,11")),
    *((SamplerName.DDPM, 30, scale) for scale in (2.0, 3.0, 5.0)),
)


class Judge:
    """A pipeline's CLIP and the captions that it chooses among."""

    def __init__(self, spec: PipelineSpec, captions: Sequence[str]) -> None:
        cpu = torch.device("cpu")
        guides = Guides.load(spec, load_tokenizer(spec), cpu, torch.float32)
        clip = load_guide(spec, next(g for g in spec.guides if g.kind == "clip"), torch.float32)
        assert isinstance(clip, NoisedClip)
        self._clip, self._captions = clip, captions
        self._texts = torch.stack([guides.caption(each) for each in captions])

    @torch.no_grad()
    def judge(self, pictures: Sequence[NDArray[np.uint8]]) -> dict[str, float]:
        """Share of pictures whose caption is the likeliest, and mean similarity to it."""
        rows = torch.stack([to_signal(each) for each in pictures])
        alike = self._clip.encode_image(rows, torch.zeros(len(rows), dtype=torch.int64))
        alike = alike @ self._texts.T
        best = [self._captions[place] for place in alike.argmax(dim=1).tolist()]
        right = [a == b for a, b in zip(best, self._captions, strict=True)]
        return {
            "retrieved": round(float(np.mean(right)), 4),
            "similarity": round(float(alike.diagonal().mean()), 4),
        }


def draw(
    engine: Engine, spec: PipelineSpec, captions: Sequence[str], options: dict[str, Any]
) -> list[NDArray[np.uint8]]:
    """One base-stage picture of each caption, its place the seed."""
    side = spec.base.resolution
    for place, words in enumerate(captions):
        given = {"task": Task.GENERATE, "prompt": words, "seed": place, "width": side, **options}
        engine.add(str(place), with_defaults(spec, given))
    pictures: dict[int, NDArray[np.uint8]] = {}
    while engine.trajectories:
        output = engine.step()
        for _, error in output.failed:
            raise error
        pictures |= {int(image.job_id): image.pixels for image in output.images}
    return [pictures[place] for place in range(len(captions))]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", type=Path, help="a pipeline folder; default: the shipped one")
    parser.add_argument("--captions", type=int, default=64)
    options = parser.parse_args()
    spec = load_spec(options.pipeline) if options.pipeline else load_catalog()["scenes"]
    sprites = draw_sprites(CORE)
    scenes: list[Scene] = [sample(FIRST + k, "val", CORE) for k in range(options.captions)]
    captions = [caption(scene, scene.seed) for scene in scenes]
    judge = Judge(spec, captions)
    shrink = SIDE // spec.base.resolution
    rendered = judge.judge([reduced(render(scene, sprites), shrink) for scene in scenes])
    print(f"{'rendered pictures':28} {rendered}", flush=True)
    engine, records = Engine(ModelRunner.load([spec], "auto", "float32"), max_batch=16), []
    for sampler, steps, scale in RUNS:
        setting = {"sampler": sampler, "steps": steps, "guidance_scale": scale}
        found = judge.judge(draw(engine, spec, captions, setting))
        print(f"{sampler:13} {steps!s:7} {scale:5}   {found}", flush=True)
        records.append({**setting, **found})
    RESULTS.mkdir(exist_ok=True)
    result = {"captions": len(captions), "rendered": rendered, "runs": records}
    (RESULTS / "sweep.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
