"""The guidance sheet: classifier, CLIP and classifier-free guidance at five scales each.

    python -m benchmarks.guidance -o docs/guidance.png

Every cell has the same captions and seeds at the base stage's size; only the kind of guidance and
its scale differ. A row's guidance acts alone: the others are off. The sampler is DDPM's, as in the
papers: there a guide shifts the mean by its gradient times the variance, which is bounded. The
score of the other samplers is shifted at the very end of the cosine process, too, where a step
spans so much of the noise that any scale overshoots.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from model.params import SamplerName
from model.pipeline import Pipeline
from model.scenes.lexicon import CORE

STEPS = 30
ZOOM, MARGIN, TEXT_HEIGHT, LABEL_WIDTH = 2, 10, 20, 190


@dataclass(frozen=True, slots=True)
class Subject:
    """One picture of each cell.

    Attributes:
        caption: of the whole picture.
        thing: the caption without the background, which the classifier is to add.
        background: its class.
        seed: of its noise.
    """

    caption: str
    thing: str
    background: str
    seed: int


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of guidance.

    Attributes:
        title: for people.
        note: what the network is told beside it.
        option: the parameter that holds the scale.
        scales: five of them.
    """

    title: str
    note: str
    option: str
    scales: tuple[float, ...]


SUBJECTS = (
    Subject("a cat on a green background", "a cat", "green", 0),
    Subject("a red apple in the snow", "a red apple", "snow", 1),
    Subject("a pig at night", "a pig", "night", 2),
    Subject("a yellow car on the beach", "a yellow car", "beach", 3),
)
ROWS = (
    Row(
        "classifier guidance",
        "the caption names the thing,\nthe class the background:\n"
        "a cat: green,\na red apple: snow,\na pig: night,\na yellow car: beach",
        "classifier_guidance_scale",
        (0, 1, 3, 10, 30),
    ),
    Row(
        "CLIP guidance",
        "the caption names both:\na cat on a green background,\na red apple in the snow,\n"
        "a pig at night,\na yellow car on the beach",
        "clip_guidance_scale",
        (0, 0.3, 1, 3, 10),
    ),
    Row(
        "classifier-free guidance",
        "the same captions",
        "guidance_scale",
        (0, 1, 2, 4, 8),
    ),
)


def draw(pipeline: Pipeline, row: Row, scale: float) -> list[Image.Image]:
    """The pictures of one cell, in the order of `SUBJECTS`."""
    side = pipeline.spec.base.resolution
    pictures: list[Image.Image] = []
    for subject in SUBJECTS:
        options: Mapping[str, object] = {"guidance_scale": 1.0, row.option: scale}
        prompt = subject.caption
        if row.option == "classifier_guidance_scale":
            prompt = subject.thing
            options = {**options, "label": CORE.backgrounds.index(subject.background)}
        pictures += pipeline.sample(
            prompt,
            width=side,
            sampler=SamplerName.DDPM,
            steps=STEPS,
            seed=subject.seed,
            **options,  # type: ignore[arg-type]
        )
    return pictures


def compose(cells: Mapping[tuple[int, int], list[Image.Image]]) -> Image.Image:
    """The sheet.

    Args:
        cells: four pictures for each row and column.
    """
    side = ZOOM * cells[0, 0][0].width
    cell = 2 * side + 2
    columns, step = len(ROWS[0].scales), cell + MARGIN
    size = (LABEL_WIDTH + columns * step, len(ROWS) * (step + TEXT_HEIGHT) + MARGIN)
    sheet = Image.new("RGB", size, "white")
    pen, font, bold = (
        ImageDraw.Draw(sheet),
        ImageFont.load_default(12),
        ImageFont.load_default(15),
    )
    for (row, column), pictures in cells.items():
        x, y = LABEL_WIDTH + column * step, MARGIN + row * (step + TEXT_HEIGHT)
        if column == 0:
            pen.text((MARGIN, y + TEXT_HEIGHT), ROWS[row].title, "black", bold)
            pen.multiline_text((MARGIN, y + TEXT_HEIGHT + 24), ROWS[row].note, "black", font)
        pen.text((x, y), f"scale {ROWS[row].scales[column]:g}", "black", bold)
        for place, picture in enumerate(pictures):
            left, top = place % 2 * (side + 2), place // 2 * (side + 2)
            large = picture.resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(large, (x + left, y + TEXT_HEIGHT + top))
    return sheet


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/guidance.png"))
    parser.add_argument("--pipeline", default="scenes", help="a pipeline's name or folder")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    pipeline = Pipeline.load(options.pipeline, torch.device(options.device))
    cells = {
        (place, column): draw(pipeline, row, scale)
        for place, row in enumerate(ROWS)
        for column, scale in enumerate(row.scales)
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    compose(cells).quantize(255).save(options.output, optimize=True)


if __name__ == "__main__":
    main()
