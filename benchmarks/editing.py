"""Before, mask, after: scenes of which the pipeline that ships paints one thing anew.

    python -m benchmarks.editing -o docs/editing.png

Row k starts from the k-th scene of the validation split. Its first thing is masked, and the caption
asks for the vocabulary's next noun in that place. Nothing is chosen by hand.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.samples import MARGIN, SIDE, TEXT_HEIGHT, wrapped
from model.pipeline import Pipeline
from model.scenes.captions import caption
from model.scenes.layout import Scene, Thing, sample
from model.scenes.lexicon import CORE
from model.scenes.renderer import render
from model.scenes.sprites import draw_sprites

ROWS = 4
GROWN = 1.25
"""The mask's side, in sizes of the thing: what touches the edge must go too."""


def exchanged(scene: Scene) -> Scene:
    """The scene with the vocabulary's next noun, in its own colours, in place of the first."""
    nouns = list(CORE.nouns)
    noun = nouns[(nouns.index(scene.things[0].noun) + 1) % len(nouns)]
    thing = replace(scene.things[0], noun=noun, sprite=CORE.sprites[noun][0], tint="")
    return replace(scene, things=(thing, *scene.things[1:]))


def mask_of(thing: Thing) -> NDArray[np.uint8]:
    """(SIDE, SIDE), white where the thing is."""
    mask = Image.new("L", (SIDE, SIDE))
    reach = GROWN * thing.size / 2
    corners = [thing.x - reach, thing.y - reach, thing.x + reach, thing.y + reach]
    ImageDraw.Draw(mask).rectangle([round(SIDE * corner) for corner in corners], fill="white")
    return np.asarray(mask)


def compose(rows: Sequence[Sequence[tuple[NDArray[np.uint8], str]]]) -> Image.Image:
    """A grid of pictures, each above its words."""
    cell_width, cell_height = SIDE + MARGIN, SIDE + TEXT_HEIGHT + MARGIN
    size = (len(rows[0]) * cell_width + MARGIN, len(rows) * cell_height + MARGIN)
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, cells in enumerate(rows):
        for column, (pixels, words) in enumerate(cells):
            corner = (MARGIN + column * cell_width, MARGIN + row * cell_height)
            sheet.paste(Image.fromarray(pixels), corner)
            text = wrapped(words, pen, font)
            pen.multiline_text((corner[0], corner[1] + SIDE + 2), text, "black", font, spacing=1)
    return sheet


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/editing.png"))
    options = parser.parse_args()
    pipeline, sprites = Pipeline.load("scenes"), draw_sprites(CORE)
    rows = []
    for seed in range(ROWS):
        scene = sample(seed, "val", CORE)
        before, mask = render(scene, sprites), mask_of(scene.things[0])
        wanted = caption(exchanged(scene))
        (after,) = pipeline.edit(wanted, before, mask, seed=seed)
        rows.append(
            [(before, caption(scene)), (mask, "white is painted"), (np.asarray(after), wanted)]
        )
    compose(rows).save(options.output, optimize=True)


if __name__ == "__main__":
    main()
