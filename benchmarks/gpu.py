"""Everything worth doing with minutes on a GPU, in order of worth, resumable.

    python -m benchmarks.gpu prepare            # anywhere with the font: draws the sprite cache
    python -m benchmarks.gpu run --minutes 25   # on the GPU; again after an interruption
    python -m benchmarks.gpu run --tiny         # the same on a CPU in a few minutes, as a rehearsal

`run` trains both stages of the shipped pipeline, exports them to `runs/gpu/scenes`, draws the
sample sheet and times the engine. It needs neither network nor font, only torch, numpy, pillow,
tokenizers and safetensors. What is done is noted in `runs/gpu/done.json` and not done again.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks import samples, serving
from model.scenes.lexicon import CORE
from model.scenes.prompts import load_sheet
from model.scenes.sprites import draw_sprites
from model.training.run import train
from model.training.trainer import Budget, Report

FOLDER = Path("runs/gpu")
SPRITES = FOLDER / "sprites.npz"
PIPELINE = FOLDER / "scenes"
# Shares of the minutes; the rest is start-up, the sheet and the timings.
SHARES = {"scenes-base": 0.62, "scenes-upsample": 0.22}


def prepare() -> None:
    """Draws the sprite cache, for a machine without the font."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    draw_sprites(CORE).save(SPRITES)


def train_stage(preset: str, seconds: float, workers: int) -> None:
    """Trains one stage and exports it."""

    def report(each: Report) -> None:
        if each.iteration % 50 == 0:
            print(f"{preset} {each}", flush=True)

    train(
        preset,
        state=FOLDER / f"{preset}.pt",
        budget=Budget(seconds=seconds, cooldown_s=0.35 * seconds, save_every_s=120),
        report=report,
        device="cuda" if torch.cuda.is_available() else "cpu",
        workers=workers,
        sprites=SPRITES,
        export=PIPELINE,
    )


def draw_sheet() -> None:
    """The sample sheet of what was trained."""
    samples.compose(load_sheet(), samples.draw(PIPELINE, 256)).save(FOLDER / "samples.png")


def time_engine() -> None:
    """Eight jobs together against one after another."""
    record = serving.measure("scenes", PIPELINE, 5, "auto")
    (FOLDER / "serving.json").write_text(json.dumps(record, indent=2) + "\n")


def run(minutes: float, workers: int, suffix: str) -> None:
    """Does what is not yet done."""
    note = FOLDER / "done.json"
    done: dict[str, float] = json.loads(note.read_text()) if note.exists() else {}
    works: list[tuple[str, Callable[[], None]]] = [
        (preset, partial(train_stage, preset + suffix, share * minutes * 60, workers))
        for preset, share in SHARES.items()
    ]
    works += [("sheet", draw_sheet), ("serving", time_engine)]
    for name, work in works:
        if name not in done:
            started = time.monotonic()
            work()
            done[name] = time.monotonic() - started
            note.write_text(json.dumps(done, indent=2) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("prepare", "run"))
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--workers", type=int, default=14, help="processes that draw scenes")
    parser.add_argument("--tiny", action="store_true", help="the CPU presets, for a rehearsal")
    options = parser.parse_args()
    if options.what == "prepare":
        prepare()
    else:
        suffix = "-cpu" if options.tiny else ""
        run(options.minutes, 0 if options.tiny else options.workers, suffix)


if __name__ == "__main__":
    main()
