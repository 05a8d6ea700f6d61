"""The sample sheet: the 32 fixed captions, each drawn once with its place as the seed.

    python -m benchmarks.samples -o docs/samples.png

Four rows of eight: the first two show compositions of the training set, the last two compositions
that are held out of it.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from model.catalog import load_catalog
from model.params import SamplingParams
from model.scenes.prompts import SheetPrompt, load_sheet
from service.engine.engine import Engine
from service.engine.runner import ModelRunner

COLUMNS, SIDE, MARGIN, TEXT_HEIGHT = 8, 256, 8, 46


def draw(folder: Path | None, size: int) -> list[NDArray[np.uint8]]:
    """One picture for each caption of the sheet, at the pipeline's defaults.

    Args:
        folder: a pipeline folder; None is the one that ships.
        size: 64 or 256 px.
    """
    catalog = load_catalog([folder] if folder else [])
    spec = catalog["scenes"]
    engine = Engine(ModelRunner.load([spec], "auto", "float32"), max_batch=8)
    for prompt in load_sheet():
        params = SamplingParams(
            prompt=prompt.caption,
            width=size,
            height=size,
            seed=prompt.seed,
            steps=spec.base.steps,
            sampler=spec.base.sampler,
            guidance_scale=spec.guidance_scale,
            guidance_interval=spec.guidance_interval,
        )
        engine.add(str(prompt.seed), params)
    pictures: dict[int, NDArray[np.uint8]] = {}
    while engine.trajectories:
        output = engine.step()
        for _, error in output.failed:
            raise error
        pictures |= {int(image.job_id): image.pixels for image in output.images}
    return [pictures[prompt.seed] for prompt in load_sheet()]


def compose(prompts: tuple[SheetPrompt, ...], pictures: list[NDArray[np.uint8]]) -> Image.Image:
    """The pictures in a grid, each above its number, its split and its caption."""
    cell_height = SIDE + TEXT_HEIGHT + MARGIN
    rows = -(-len(pictures) // COLUMNS)
    size = (COLUMNS * (SIDE + MARGIN) + MARGIN, rows * cell_height + MARGIN)
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for place, (prompt, pixels) in enumerate(zip(prompts, pictures, strict=True)):
        x = MARGIN + place % COLUMNS * (SIDE + MARGIN)
        y = MARGIN + place // COLUMNS * cell_height
        picture = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        sheet.paste(picture, (x, y))
        held_out = "" if prompt.split == "val" else f" (held out: {prompt.split})"
        text = wrapped(f"{prompt.seed}. {prompt.caption}{held_out}", pen, font)
        pen.multiline_text((x, y + SIDE + 2), text, "black", font, spacing=1)
    return sheet


def wrapped(
    text: str, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """The text in lines no longer than `SIDE`."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if pen.textlength(longer, font) > SIDE:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/samples.png"))
    parser.add_argument("--pipeline", type=Path, help="a pipeline folder; default: the shipped one")
    parser.add_argument("--size", type=int, choices=(64, 256), default=256)
    options = parser.parse_args()
    sheet = compose(load_sheet(), draw(options.pipeline, options.size))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.output, optimize=True)


if __name__ == "__main__":
    main()
