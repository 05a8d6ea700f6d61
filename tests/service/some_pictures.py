"""Pictures as a client sends them."""

import io

import numpy as np
from PIL import Image


def picture(width: int = 48, height: int = 32, *, kind: str = "PNG") -> bytes:
    """Every pixel differs from its neighbours."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows * 5 % 256, columns * 3 % 256, (rows + columns) % 256], axis=-1)
    return _encoded(Image.fromarray(pixels.astype(np.uint8)), kind)


def mask(width: int = 48, height: int = 32, *, painted: float = 0.5) -> bytes:
    """White, to be painted, from the left edge up to `painted` of the width; black beyond."""
    levels = np.zeros((height, width), np.uint8)
    levels[:, : round(painted * width)] = 255
    return _encoded(Image.fromarray(levels), "PNG")


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()
