"""Finished images at sizes that no pipeline makes.

An image is scaled with Pillow's Lanczos filter until it covers the size asked for, and what then
stands over on two sides is cut off. What the file says of its making goes along. Knows no job.
"""

import io
import re
from typing import Any

from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile, PngInfo, iTXt

Size = tuple[int, int]
"""Width and height, px."""

LONGEST_SIDE = 3840
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})", re.ASCII)
_BEST = {"quality": 95}


def parse_size(text: str) -> Size | None:
    """`640x480` as numbers; None where it has another form."""
    found = _SIZE.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else None


def is_scalable(size: Size) -> bool:
    """Whether images are scaled to this size: that of a screen at most."""
    return max(size) <= LONGEST_SIDE


def scaled(data: bytes, size: Size, output_format: str) -> bytes:
    """An encoded image at another size, and in another format where it has one.

    Args:
        data: a PNG, JPEG or WebP of our own.
        size: of the result.
        output_format: `png`, `jpeg` or `webp`, of the result; the record of its making goes along
            where it stays the same.
    """
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        fitted = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
        record = _record(image) if image.format == output_format.upper() else {}
        fitted.save(buffer, output_format.upper(), **record, **_quality(output_format))
    return buffer.getvalue()


def _record(image: Image.Image) -> dict[str, Any]:
    if isinstance(image, PngImageFile):
        chunks = PngInfo()
        for name, text in image.text.items():
            add = chunks.add_itxt if isinstance(text, iTXt) else chunks.add_text
            add(name, text)
        return {"pnginfo": chunks}
    return {name: image.info[name] for name in ("exif", "xmp") if name in image.info}


def _quality(output_format: str) -> dict[str, Any]:
    return {"png": {}, "webp": _BEST, "jpeg": {**_BEST, "subsampling": 0}}[output_format]
