"""People's pictures and masks: read safely, and fitted to the side of a stage. Torch-free.

The rules. A picture is turned as its EXIF orientation says; of an animation the first frame
counts; colours become 8-bit RGB; what is transparent lies on white. It is cropped to the square in
its centre and resized with Pillow's bicubic filter. A mask has the size of its picture. Where it
has an alpha channel that isn't opaque everywhere, transparent is painted; else white is painted,
black is kept, and grey is a soft blend. Without a mask the picture's own alpha is one. A mask is
cropped as its picture is; each pixel of the result keeps as little as the least of those it covers.

Knows no tensors, no stages and no tasks.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from model.errors import ConditioningError

PixelArray = NDArray[np.uint8]
KeepArray = NDArray[np.float32]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What is read: formats whose decoders start no other program."""

MAX_PIXELS = 40_000_000
"""A bigger picture is refused before it is unpacked."""

_OPAQUE = 255
_SNAP = 16 / 255
"""So close to black or white, a mask's grey is the noise of a lossy file."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: (H, W, 3) uint8, RGB, what is transparent on white.
        alpha: (H, W) uint8, 255 where it is opaque; None where it is opaque everywhere.
    """

    pixels: PixelArray
    alpha: PixelArray | None

    @property
    def width(self) -> int:
        """In pixels, the right way up."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """In pixels, the right way up."""
        return int(self.pixels.shape[0])


Source = bytes | PixelArray | Image.Image
"""An encoded file, an array (H, W), (H, W, 3) or (H, W, 4) uint8, or a picture of Pillow's."""


def read_picture(source: Source) -> Picture:
    """Decodes a picture.

    Raises:
        ConditioningError: not a picture, damaged, of a format outside `FORMATS`, or too large.
    """
    rgba = _rgba(source, "picture")
    alpha = np.asarray(rgba.getchannel("A"))
    if int(alpha.min()) == _OPAQUE:
        return Picture(np.asarray(rgba.convert("RGB")), None)
    white = Image.new("RGBA", rgba.size, "white")
    return Picture(np.asarray(Image.alpha_composite(white, rgba).convert("RGB")), alpha)


def read_mask(source: Source | None, picture: Picture) -> KeepArray:
    """How much of each pixel of `picture` is kept, by the module's rule.

    Args:
        source: the mask; None takes the picture's own alpha.
        picture: what it masks.

    Returns:
        (H, W) float32, 1 = keep, 0 = paint.

    Raises:
        ConditioningError: not a picture, of another size, or a mask that keeps or paints all of
            the square in the centre; or None where the picture is opaque.
    """
    if source is not None:
        keep = _keep(source, picture)
    elif picture.alpha is not None:
        keep = (picture.alpha / np.float32(_OPAQUE)).astype(np.float32)
    else:
        raise ConditioningError(
            "Inpainting needs a mask: white where to paint and black where to keep, or a picture "
            "that is transparent where to paint."
        )
    keep = np.where(keep <= _SNAP, 0, np.where(keep >= 1 - _SNAP, 1, keep)).astype(np.float32)
    seen = _central_square(keep)
    if seen.min() == 1:
        raise ConditioningError(
            "The mask keeps every pixel of the square in the picture's centre: make white, or "
            "transparent, what is to be painted."
        )
    if seen.max() == 0:
        raise ConditioningError(
            "The mask keeps nothing of the square in the picture's centre: make black, or opaque, "
            "what is to stay; or leave picture and mask out to draw from the prompt alone."
        )
    return keep


def fit(picture: Picture, side: int) -> PixelArray:
    """The centre of a picture at the size of a stage, (side, side, 3) uint8.

    A picture of that very size comes back bit by bit.
    """
    square = Image.fromarray(np.ascontiguousarray(_central_square(picture.pixels)), mode="RGB")
    return np.asarray(square.resize((side, side), Image.Resampling.BICUBIC))


def fit_mask(keep: KeepArray, side: int) -> KeepArray:
    """The centre of a mask at the size of a stage, (side, side) float32.

    The least of the pixels that one covers, so that nothing of what is to go shines through.

    Args:
        keep: (H, W), as `read_mask` returns it.
        side: of the stage, px.
    """
    square = _central_square(keep)
    edges = np.arange(side) * len(square) // side
    rows = np.minimum.reduceat(square, edges, axis=0)
    fitted: KeepArray = np.minimum.reduceat(rows, edges, axis=1)
    return fitted


@dataclass(frozen=True, eq=False)
class Pictures:
    """What a request starts from, and what of it each stage sees.

    Decoding happens once, for the sides that `fit_to` names, in whatever thread calls it; only the
    fitted squares are kept.

    Attributes:
        image: the picture.
        mask: which of it to paint; None for tasks without one, or for the picture's own alpha.
    """

    image: Source
    mask: Source | None = None
    _images: dict[int, PixelArray] = field(init=False, repr=False, default_factory=dict)
    _masks: dict[int, KeepArray] = field(init=False, repr=False, default_factory=dict)

    def fit_to(self, sides: Iterable[int], *, masked: bool) -> None:
        """Prepares `image_at`, and where `masked` also `keep_at`, for these sides.

        Raises:
            ConditioningError: as `read_picture` and `read_mask`.
        """
        wanted = set(sides)
        if wanted <= self._images.keys() and (not masked or wanted <= self._masks.keys()):
            return
        picture = read_picture(self.image)
        if masked:
            keep = read_mask(self.mask, picture)
            self._masks.update({side: fit_mask(keep, side) for side in wanted})
        self._images.update({side: fit(picture, side) for side in wanted})

    def image_at(self, side: int) -> PixelArray:
        """(side, side, 3) uint8.

        Raises:
            ConditioningError: as `read_picture`.
        """
        self.fit_to([side], masked=False)
        return self._images[side]

    def keep_at(self, side: int) -> KeepArray:
        """(side, side) float32, 1 = keep, 0 = paint.

        Raises:
            ConditioningError: as `read_picture` and `read_mask`.
        """
        self.fit_to([side], masked=True)
        return self._masks[side]


def _keep(source: Source, picture: Picture) -> KeepArray:
    rgba = _rgba(source, "mask")
    if rgba.size != (picture.width, picture.height):
        width, height = rgba.size
        raise ConditioningError(
            f"The mask is {width}x{height} and the picture {picture.width}x{picture.height}: "
            "give a mask of the picture's size."
        )
    alpha = np.asarray(rgba.getchannel("A"), np.float32)
    if alpha.min() < _OPAQUE:
        return alpha / np.float32(_OPAQUE)
    return 1 - np.asarray(rgba.convert("L"), np.float32) / np.float32(_OPAQUE)


def _rgba(source: Source, what: str) -> Image.Image:
    """Decoded, the right way up, in 8-bit RGBA."""
    try:
        image = _opened(source)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ConditioningError(
                f"The {what} is {width}x{height}: at most {MAX_PIXELS // 10**6} megapixels are "
                "read, so make it smaller."
            )
        return _in_8_bits(ImageOps.exif_transpose(image)).convert("RGBA")
    except ConditioningError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ConditioningError(
            f"The {what} is too large: at most {MAX_PIXELS // 10**6} megapixels are read."
        ) from None
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        names = ", ".join(FORMATS)
        raise ConditioningError(
            f"The {what} can't be read: give a whole and undamaged file of {names}."
        ) from error


def _opened(source: Source) -> Image.Image:
    if isinstance(source, bytes):
        return Image.open(io.BytesIO(source), formats=FORMATS)
    if isinstance(source, np.ndarray):
        return Image.fromarray(np.ascontiguousarray(source))
    return source


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Deep greys as 8-bit ones: integers of 16 bits lose the lower eight, floats are 0 … 1."""
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
    elif image.mode == "F":
        levels = (np.nan_to_num(np.asarray(image)).clip(0, 1) * 255).round()
    else:
        return image
    return Image.fromarray(levels.astype(np.uint8))


def _central_square(array: NDArray[np.generic]) -> NDArray[np.generic]:
    height, width = array.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return array[top : top + side, left : left + side]
