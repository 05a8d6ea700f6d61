"""Pictures: what the facts say is what the pixels show."""

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.scenes.layout import Scene, Thing, sample
from model.scenes.lexicon import COLOURS, CORE, PLACES
from model.scenes.renderer import reduced, render
from model.scenes.sprites import Sprites

Pixels = NDArray[np.uint8]
TINTS = {name: COLOURS[name] for name in CORE.colours}


def nearest(colour: NDArray[np.floating], names: Mapping[str, tuple[int, int, int]]) -> str:
    return min(names, key=lambda name: float(np.linalg.norm(colour - np.array(names[name]))))


def lone(tint: str = "", background: str = "white", flip: bool = False, seed: int = 0) -> Scene:
    cat = Thing("cat", "🐱", tint, 0.4, 0.6, 0.5, flip=flip, angle=0)
    return Scene("one", (cat,), background, "", "plain", seed, CORE)


def middle(pixels: Pixels, thing: Thing) -> NDArray[np.floating]:
    """Mean colour of the inner half of an object."""
    side = pixels.shape[0]
    left, right, top, bottom = (
        round(side * edge)
        for centre in (thing.x, thing.y)
        for edge in (centre - thing.size / 4, centre + thing.size / 4)
    )
    mean: NDArray[np.floating] = pixels[top:bottom, left:right].mean((0, 1))
    return mean


def test_a_picture_of_64_is_the_block_mean_of_the_picture_of_256(sprites: Sprites) -> None:
    for seed in range(12):
        scene = sample(seed, "train", CORE)
        large, small = render(scene, sprites), render(scene, sprites, side=64)
        assert large.shape == (256, 256, 3)
        assert large.dtype == small.dtype == np.uint8
        assert np.array_equal(small, np.asarray(Image.fromarray(large).reduce(4)))
        assert np.array_equal(small, reduced(large, 4))
        means = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
        assert np.abs(small - means).max() <= 0.5


def test_a_corner_shows_the_background(sprites: Sprites) -> None:
    named = {name: COLOURS[name] for name in CORE.backgrounds if name in COLOURS}
    for name in named:
        for seed in range(5):
            pixels = render(lone(background=name, seed=seed), sprites)
            assert nearest(pixels[:8, -8:].mean((0, 1)), named) == name


@pytest.mark.parametrize("name", [name for name in CORE.backgrounds if name in PLACES])
def test_a_place_has_its_sky_above_and_its_ground_below(name: str, sprites: Sprites) -> None:
    pixels = render(lone(background=name), sprites)
    place = PLACES[name]
    assert place.ground is not None
    colours = {"sky": place.top, "ground": place.ground}
    assert nearest(np.median(pixels[:8], (0, 1)), colours) == "sky"
    assert nearest(np.median(pixels[-8:], (0, 1)), colours) == "ground"


def test_a_tinted_object_shows_its_colour(sprites: Sprites) -> None:
    for tint in TINTS:
        scene = lone(tint)
        assert nearest(middle(render(scene, sprites), scene.things[0]), TINTS) == tint


def test_sampled_objects_are_where_and_what_the_facts_say(sprites: Sprites) -> None:
    checked = 0
    for seed in range(150):
        scene = sample(seed, "train", CORE)
        pixels = render(scene, sprites, side=64)
        for thing in scene.things:
            if thing.colour:
                assert nearest(middle(pixels, thing), TINTS) == thing.colour
                checked += 1
    assert checked > 100


def test_an_object_is_centred_and_sized_as_laid_out(sprites: Sprites) -> None:
    pixels = render(lone("blue"), sprites).astype(int)
    ys, xs = np.nonzero(pixels[..., 2] - pixels[..., 0] > 60)
    assert (xs.min() + xs.max()) / 2 == pytest.approx(0.4 * 256, abs=1.5)
    assert (ys.min() + ys.max()) / 2 == pytest.approx(0.6 * 256, abs=1.5)
    assert xs.max() - xs.min() == pytest.approx(0.5 * 256, abs=3)


def test_a_flipped_object_is_mirrored_in_place(sprites: Sprites) -> None:
    pixels = render(lone(), sprites)
    flipped = render(lone(flip=True), sprites)
    left, right = (round(256 * (0.4 + offset)) for offset in (-0.125, 0.125))
    row = round(256 * 0.6)
    assert pixels[row, left].mean() < 40 < pixels[row, right].mean()
    assert flipped[row, right].mean() < 40 < flipped[row, left].mean()


def test_a_flipped_object_turns_the_same_way(sprites: Sprites) -> None:
    def spot_height(angle: int, flip: bool) -> float:
        thing = Thing("cat", "🐱", "", 0.5, 0.5, 0.75, flip=flip, angle=angle)
        pixels = render(Scene("one", (thing,), "white", "", "plain", 0, CORE), sprites)
        return float(np.nonzero(pixels.max(2) < 40)[0].mean())

    # Counterclockwise: what is left of the middle sinks, what is right of it rises.
    assert spot_height(8, flip=False) > spot_height(0, flip=False) + 5
    assert spot_height(8, flip=True) < spot_height(0, flip=True) - 5


def test_backgrounds_vary_with_the_seed_and_only_with_it(sprites: Sprites) -> None:
    assert np.array_equal(render(lone(seed=1), sprites), render(lone(seed=1), sprites))
    assert not np.array_equal(render(lone(seed=1), sprites), render(lone(seed=2), sprites))


@pytest.mark.parametrize("style", ["pixel", "mono", "sketch"])
def test_styles(style: str, sprites: Sprites) -> None:
    thing = Thing("apple", "🍎", "", 0.5, 0.5, 0.6, flip=False, angle=0)
    pixels = render(Scene("one", (thing,), "blue", "", style, 0, CORE), sprites)
    if style == "pixel":
        blocks = pixels.reshape(32, 8, 32, 8, 3)
        assert (blocks == blocks[:, :1, :, :1]).all()
    else:
        assert np.ptp(pixels, axis=2).max() == 0
        assert np.ptp(pixels) > 100
