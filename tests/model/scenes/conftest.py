"""A sprite set that needs no font: shaded shapes, one for each emoji of the small vocabulary."""

import numpy as np
import pytest
from numpy.typing import NDArray

from model.scenes.lexicon import COLOURS, CORE, NATURAL_COLOURS
from model.scenes.sprites import Sprites


def _disc(colour: str) -> NDArray[np.uint8]:
    """A disc of 100 px, lighter at the top, with a dark spot on the left."""
    down, right = np.mgrid[:100, :100].astype(np.float32)
    glyph = np.zeros((100, 100, 4), np.float32)
    glyph[..., :3] = COLOURS[colour]
    glyph[..., :3] += (50 - down)[..., None] * 0.4
    glyph[np.hypot(down - 50, right - 25) < 10, :3] = 10
    glyph[..., 3] = 255 * (np.hypot(down - 49.5, right - 49.5) < 49.5)
    return glyph.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def sprites() -> Sprites:
    emoji = [sprite for row in CORE.sprites.values() for sprite in row]
    return Sprites({sprite: _disc(NATURAL_COLOURS.get(sprite, "gray")) for sprite in emoji})
