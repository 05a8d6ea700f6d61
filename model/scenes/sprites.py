"""Where the pictures of objects come from: the glyphs of a colour-emoji font, and a cache of them.

The Noto Color Emoji font draws them (SIL Open Font License 1.1). `Sprites.save` keeps the glyphs
in one file, which can be carried to a machine without the font. Knows nothing of scenes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from model.errors import ModelError
from model.scenes.lexicon import COLOURS, Vocabulary

FONT_FILE = "NotoColorEmoji.ttf"
FONT_FOLDERS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path("~/.local/share/fonts"),
    Path("~/.fonts"),
)
NOTICE = "Glyphs of Noto Color Emoji, Copyright Google LLC, SIL Open Font License 1.1"

_STRIKE = 109  # the one size of the font's bitmaps; FreeType opens no other
_UNASSIGNED = "\U0010ffff"  # drawn as whatever a font shows for an emoji it lacks
_CANVAS = 160
_KEPT = 1024  # turned sprites
_INK = 8  # a pixel with more alpha than this, of 255, belongs to the glyph
_HOW_TO_INSTALL = (
    "install the Debian package fonts-noto-color-emoji, or pass the path of a "
    f"{FONT_FILE} or of a saved sprite cache"
)


@dataclass(frozen=True, slots=True)
class Turned:
    """A turned sprite.

    Attributes:
        image: RGB premultiplied by alpha (mode RGBa); not to be changed.
        longest: longest side of the sprite before it was turned, px.
    """

    image: Image.Image
    longest: int


class SpriteError(ModelError):
    """The glyphs can't be had: no font, an unsuitable one, or a damaged cache."""

    code = "no_sprites"


class Sprites:
    """The glyphs of a set of emoji, each cropped to its ink; tinted and turned on demand.

    Args:
        glyphs: for each emoji its pixels, uint8 (H, W, 4), red, green, blue and alpha.
    """

    def __init__(self, glyphs: Mapping[str, NDArray[np.uint8]]) -> None:
        self._glyphs = dict(glyphs)
        # Turning costs more than all the rest of a scene; a kept picture is about 70 kB.
        self.turned = lru_cache(maxsize=_KEPT)(self._turned)

    def __len__(self) -> int:
        return len(self._glyphs)

    def __reduce__(self) -> tuple[type["Sprites"], tuple[dict[str, NDArray[np.uint8]]]]:
        return Sprites, (self._glyphs,)

    def glyph(self, sprite: str, tint: str = "") -> NDArray[np.uint8]:
        """The pixels of a sprite, uint8 (H, W, 4).

        Args:
            sprite: the emoji.
            tint: name of the colour it is painted over with; "" for its own colours.

        Raises:
            SpriteError: the set has no such emoji.
        """
        if sprite not in self._glyphs:
            raise SpriteError(f"this sprite set has no {sprite}: draw it anew from the font")
        glyph = self._glyphs[sprite]
        return tinted(glyph, tint) if tint else glyph

    def _turned(self, sprite: str, tint: str, angle: int) -> Turned:
        glyph = Image.fromarray(self.glyph(sprite, tint))
        image = glyph.rotate(angle, Image.Resampling.BICUBIC, expand=True).convert("RGBa")
        return Turned(image, max(glyph.size))

    def save(self, path: Path) -> None:
        """Writes the glyphs into one `.npz` file."""
        members: dict[str, Any] = {_member(sprite): glyph for sprite, glyph in self._glyphs.items()}
        with path.open("wb") as file:
            np.savez_compressed(file, notice=np.array(NOTICE), **members)


def load_sprites(path: Path) -> Sprites:
    """Reads what `Sprites.save` wrote.

    Raises:
        SpriteError: the file is missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
            names = [name for name in members.files if name != "notice"]
            glyphs = {_emoji(name): _checked(members[name]) for name in names}
    except (OSError, ValueError, TypeError, EOFError, BadZipFile) as error:
        raise SpriteError(f"{path} is not a readable sprite cache: {error}") from error
    return Sprites(glyphs)


def draw_sprites(
    vocabulary: Vocabulary, font: Path | None = None, folders: Sequence[Path] = FONT_FOLDERS
) -> Sprites:
    """Draws every sprite of a vocabulary from the font.

    Args:
        vocabulary: whose sprites.
        font: the font's file; None looks for it.
        folders: where to look, with everything below.

    Raises:
        SpriteError: there is no font, or it lacks the bitmaps.
    """
    path = font or find_font(folders)
    try:
        # A file, since Pillow would replace a bad path by a system font of the same name.
        with path.open("rb") as file:
            face = ImageFont.truetype(file, _STRIKE)
    except OSError as error:
        raise SpriteError(f"{path} can't be used as a font ({error}): {_HOW_TO_INSTALL}") from error
    unknown = _drawn(face, _UNASSIGNED)
    glyphs: dict[str, NDArray[np.uint8]] = {}
    for sprite in sorted({sprite for row in vocabulary.sprites.values() for sprite in row}):
        pixels = _drawn(face, sprite)
        if np.array_equal(pixels, unknown) or not pixels[..., 3].any():
            raise SpriteError(f"{path} has no bitmap of {sprite}: {_HOW_TO_INSTALL}")
        glyphs[sprite] = _cropped(pixels)
    return Sprites(glyphs)


def find_font(folders: Iterable[Path] = FONT_FOLDERS) -> Path:
    """The first Noto Color Emoji font in the folders or below them.

    Raises:
        SpriteError: there is none.
    """
    for folder in folders:
        for path in sorted(folder.expanduser().rglob(FONT_FILE)):
            return path
    raise SpriteError(f"the font Noto Color Emoji is not installed: {_HOW_TO_INSTALL}")


def tinted(glyph: NDArray[np.uint8], colour: str) -> NDArray[np.uint8]:
    """Paints a glyph over with a named colour and keeps its shading.

    Hue and mean brightness come from the colour; the glyph's luminance, normalised in contrast,
    lightens or darkens it.

    Args:
        glyph: uint8 (H, W, 4).
        colour: a key of `COLOURS`.
    """
    pixels = glyph.astype(np.float32)
    light = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
    ink = light[glyph[..., 3] > 128]
    light = np.clip((light - ink.mean()) / (ink.std() + 12), -2, 2)[..., None]
    base = np.array(COLOURS[colour], np.float32)
    pixels[..., :3] = base + (np.where(light > 0, 255, 0) - base) * np.abs(light) * 0.3
    return pixels.clip(0, 255).astype(np.uint8)


def _drawn(face: ImageFont.FreeTypeFont, sprite: str) -> NDArray[np.uint8]:
    canvas = Image.new("RGBA", (_CANVAS, _CANVAS), (255, 255, 255, 0))
    ImageDraw.Draw(canvas).text((12, 12), sprite, font=face, embedded_color=True)
    return np.asarray(canvas)


def _cropped(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    ys, xs = np.nonzero(pixels[..., 3] > _INK)
    return pixels[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].copy()


def _checked(glyph: NDArray[Any]) -> NDArray[np.uint8]:
    if glyph.dtype != np.uint8 or glyph.ndim != 3 or glyph.shape[2] != 4 or not glyph.size:
        raise ValueError("a member is not a glyph")
    return glyph


def _member(sprite: str) -> str:
    return f"u{ord(sprite):x}"


def _emoji(member: str) -> str:
    return chr(int(member.removeprefix("u"), 16))
