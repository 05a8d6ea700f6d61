"""Paints a scene. The 256 px picture is the only one painted; smaller ones are its block means.

A picture painted at 64 px would differ from a reduced one by about 31 dB, so that the two stages
of a cascade would be trained on different pictures. Knows nothing of captions.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from model.scenes.layout import Scene, Thing
from model.scenes.lexicon import COLOURS, PLACES, Place
from model.scenes.splits import unit_hash
from model.scenes.sprites import Sprites

SIDE = 256
_SPECKS = 18
_SPECK_BOX = 16  # px; wide enough for the largest speck

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

_DOWN: Floats = np.linspace(0, 1, SIDE, dtype=np.float32)[:, None]  # 0 at the top, 1 at the bottom


def render(scene: Scene, sprites: Sprites, side: int = SIDE) -> Pixels:
    """The picture of a scene, uint8 (side, side, 3).

    Args:
        scene: what to paint.
        sprites: the glyphs to paint it with.
        side: 256, or a divisor of it.
    """
    image = _paint(scene, sprites)
    return np.asarray(image if side == SIDE else image.reduce(SIDE // side))


def reduced(pixels: Pixels, factor: int) -> Pixels:
    """A picture made smaller by a whole factor: every pixel the mean of a block."""
    return np.asarray(Image.fromarray(pixels).reduce(factor))


def _paint(scene: Scene, sprites: Sprites) -> Image.Image:
    rng = np.random.default_rng(int(unit_hash("pixels", scene.seed, scene.things) * 2**48))
    image = _backdrop(scene.background, rng)
    for thing in scene.things:
        _paste(image, thing, sprites)
    return _styled(image, scene.style)


def _paste(image: Image.Image, thing: Thing, sprites: Sprites) -> None:
    # Mirroring last lets both directions share a turned sprite; it also reverses the angle.
    turned = sprites.turned(thing.sprite, thing.tint, -thing.angle if thing.flip else thing.angle)
    scale = thing.size * SIDE / turned.longest
    width, height = (max(1, round(length * scale)) for length in turned.image.size)
    art = turned.image.resize((width, height), Image.Resampling.BICUBIC).convert("RGBA")
    if thing.flip:
        art = art.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image.paste(art, (round(thing.x * SIDE - width / 2), round(thing.y * SIDE - height / 2)), art)


def _styled(image: Image.Image, style: str) -> Image.Image:
    match style:
        case "pixel":
            small = image.resize((32, 32), Image.Resampling.BOX).quantize(24).convert("RGB")
            return small.resize((SIDE, SIDE), Image.Resampling.NEAREST)
        case "mono":
            return image.convert("L").convert("RGB")
        case "sketch":
            grey = image.convert("L").filter(ImageFilter.GaussianBlur(SIDE / 256))
            edges = ImageChops.difference(grey, grey.filter(ImageFilter.GaussianBlur(SIDE / 64)))
            strokes = ImageChops.invert(edges)
            return strokes.point([max(0, 5 * v - 1020) for v in range(256)]).convert("RGB")
        case _:
            return image


def _backdrop(name: str, rng: np.random.Generator) -> Image.Image:
    if name in PLACES:
        return _place(PLACES[name], rng)
    slope = np.float32(rng.uniform(-26, 26))
    return _across(_jittered(COLOURS[name], 7, rng) + (0.5 - _DOWN) * slope)


def _place(place: Place, rng: np.random.Generator) -> Image.Image:
    top, bottom = (_jittered(colour, 6, rng) for colour in (place.top, place.bottom))
    sky = top + (bottom - top) * _DOWN
    if place.ground is None:
        field = np.array(_across(sky))
    else:
        ground = np.array(place.ground, np.float32) * (1.06 - 0.12 * _DOWN)
        field = _landscape(sky, ground, _horizon(rng, 0.0 if place.flat else 0.03))
    if place.specks is not None:
        _sprinkle(field, np.array(place.specks, np.float32), rng)
    return Image.fromarray(field)


def _jittered(colour: tuple[int, int, int], spread: float, rng: np.random.Generator) -> Floats:
    return (np.array(colour) + rng.normal(0, spread, 3)).astype(np.float32)


def _across(rows: Floats) -> Image.Image:
    """A picture of equal columns from (side, 3) rows; many times faster than broadcasting."""
    column = Image.fromarray(rows.clip(0, 255).astype(np.uint8)[:, None])
    return column.resize((SIDE, SIDE), Image.Resampling.NEAREST)


def _horizon(rng: np.random.Generator, swell: float) -> Floats:
    """Where the ground begins in each column, px from the top: (side,)."""
    waves = np.sin(rng.uniform(2, 9) * np.linspace(0, 1, SIDE) + rng.uniform(0, 2 * np.pi))
    return ((rng.uniform(0.58, 0.74) + swell * waves) * SIDE).astype(np.float32)


def _landscape(sky: Floats, ground: Floats, horizon: Floats) -> Pixels:
    """Sky over ground with an antialiased edge; only the rows around the edge are blended."""
    band = slice(int(horizon.min()) - 1, int(horizon.max()) + 2)
    field = np.array(_across(np.concatenate([sky[: band.stop], ground[band.stop :]])))
    rows = np.arange(band.start, band.stop, dtype=np.float32)[:, None]
    cover = np.clip(rows - horizon + 0.5, 0, 1)[..., None]  # (rows, side, 1)
    blended = sky[band, None] + (ground[band] - sky[band])[:, None] * cover
    field[band] = blended.clip(0, 255).astype(np.uint8)
    return field


def _sprinkle(field: Pixels, colour: Floats, rng: np.random.Generator) -> None:
    """Strews antialiased dots over the picture."""
    centres = rng.random((_SPECKS, 2)).astype(np.float32) * np.array(
        [SIDE * 0.95, SIDE], np.float32
    )
    radii = rng.uniform(0.006, 0.016, _SPECKS).astype(np.float32) * SIDE
    corners = (centres - _SPECK_BOX / 2).astype(int).clip(0, SIDE - _SPECK_BOX)
    steps = np.arange(_SPECK_BOX, dtype=np.float32)
    down = corners[:, :1] + steps - centres[:, :1]  # (specks, box)
    right = corners[:, 1:] + steps - centres[:, 1:]
    distance = np.hypot(down[:, :, None], right[:, None, :])
    cover = np.clip(radii[:, None, None] - distance + 0.5, 0, 1)[..., None]
    for (y, x), mask in zip(corners, cover, strict=True):
        box = field[y : y + _SPECK_BOX, x : x + _SPECK_BOX]
        box[:] = box + (colour - box) * mask
