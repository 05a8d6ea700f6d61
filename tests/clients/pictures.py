"""Pictures that clients send, and what they get back, opened."""

import base64
import io

from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    """An image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def photo(width: int = 96, height: int = 64) -> bytes:
    """An opaque picture, wider than high."""
    return encoded(Image.linear_gradient("L").resize((width, height)).convert("RGB"))


def mask(width: int = 96, height: int = 64) -> bytes:
    """Opaque on the left, transparent on the right."""
    image = Image.new("RGBA", (width, height), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (width // 2, 0, width, height))
    return encoded(image)


def opened(text: str | None) -> Image.Image:
    """An image from base64."""
    assert text is not None
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    image.load()
    return image
