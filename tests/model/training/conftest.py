"""Sprites that need no font, for every test of training."""

import numpy as np
import pytest
from numpy.typing import NDArray

from model.scenes.lexicon import CORE
from model.scenes.sprites import Sprites


def disc(colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A sprite that needs no font."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    inside = (x**2 + y**2 < 1)[..., None]
    rgba = np.array([*colour, 255], np.uint8)
    return np.where(inside, rgba, np.zeros(4, np.uint8))


@pytest.fixture(scope="package")
def sprites() -> Sprites:
    rng = np.random.default_rng(0)
    glyphs = {
        sprite: disc(tuple(rng.integers(0, 256, 3)))
        for family in CORE.sprites.values()
        for sprite in family
    }
    return Sprites(glyphs)
