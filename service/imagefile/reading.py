"""Reads a picture and what it says of its making, whoever wrote it. Torch-free.

A file that can't be decoded is refused; whatever is wrong with the rest is told and left out.
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from model.errors import ConditioningError
from model.imaging import FORMATS, MAX_PIXELS, read_picture
from service.imagefile.encoding import (
    CHUNK,
    EXIF_IFD,
    TEXT_CHUNK,
    UNICODE,
    USER_COMMENT,
    XMP_CHUNK,
)
from service.imagefile.provenance import SCHEMAS
from service.imagefile.xmp import DamagedPacket, Xmp, joined, read_packet

LONGEST_RECORD = 2 << 20
"""Characters of a record that is read; two captions of full length take 800 000 at the most."""

_LOSSLESS = frozenset({"png", "bmp", "ppm"})
_RIFF_HEAD, _CHUNK_HEAD = 12, 8


@dataclass(frozen=True, slots=True, eq=False)
class ImageFile:
    """A decoded file.

    Attributes:
        format: `png`, `jpeg`, `webp`, ….
        lossless: whether the format keeps every pixel.
        pixels: (H, W, 3) uint8, RGB.
        record: the provenance record that it carries; None where it carries none.
        generation: the text that galleries read; None where it carries none.
        digital_source_type: IPTC's; None where it says nothing.
        problems: what was wrong with what it carries.
    """

    format: str
    lossless: bool
    pixels: NDArray[np.uint8]
    record: Mapping[str, Any] | None
    generation: str | None
    digital_source_type: str | None
    problems: tuple[str, ...]


def read_file(data: bytes) -> ImageFile:
    """Decodes a file and reads what it says of its making.

    Raises:
        ConditioningError: not a picture, damaged, of a format outside `FORMATS`, or too large.
    """
    try:
        with PillowImage.open(io.BytesIO(data), formats=FORMATS) as image:
            _require_size(image)
            image.load()
            return _read(image, data)
    except ConditioningError:
        raise
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning):
        raise _too_large() from None
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        if "MAX_TEXT" in str(error):
            raise ConditioningError("The file carries more text than is read.") from error
        names = ", ".join(FORMATS)
        raise ConditioningError(
            f"The file can't be read: give a whole and undamaged file of {names}."
        ) from error


def _require_size(image: PillowImage.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large()


def _too_large() -> ConditioningError:
    return ConditioningError(
        f"The picture is too large: at most {MAX_PIXELS // 10**6} megapixels are read."
    )


class _Sources:
    """The places of a file that say something; what can't be read there becomes a problem."""

    def __init__(self, image: PillowImage.Image) -> None:
        self._image = image
        self.problems: list[str] = []
        self.texts: Mapping[str, str] = getattr(image, "text", {})
        self.xmp = self._try(self._read_xmp) or Xmp()

    def record(self) -> Mapping[str, Any] | None:
        """The record, from our chunk or from XMP."""
        text = self.texts.get(CHUNK) or self.xmp.record
        if text is None and self.xmp.extension is not None:
            text = self._try(self._read_extension)
        return None if text is None else self._try(lambda: _parsed(text))

    def generation(self) -> str | None:
        """The text that galleries read, from its chunk or from Exif."""
        return self.texts.get(TEXT_CHUNK) or self._try(self._read_comment)

    def _try(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (DamagedPacket, _Unreadable) as error:
            self.problems.append(str(error))
        except Exception as error:  # noqa: BLE001 (Pillow's tables raise what they stumble over)
            self.problems.append(f"its metadata can't be read: {type(error).__name__}")
        return None

    def _read_xmp(self) -> Xmp:
        data = self._image.info.get("xmp") or self.texts.get(XMP_CHUNK, "").encode()
        return read_packet(data) if data else Xmp()

    def _read_extension(self) -> str | None:
        segments = [each for _, each in getattr(self._image, "applist", ())]
        return read_packet(joined(segments, self.xmp.extension or "")).record

    def _read_comment(self) -> str | None:
        if "exif" not in self._image.info:
            return None
        comment = self._image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT)
        if not isinstance(comment, bytes) or not comment.startswith(UNICODE):
            return None
        text = comment.removeprefix(UNICODE)
        order = "utf-16-le" if text[1:2] == b"\0" else "utf-16-be"  # some write it backwards
        return text.decode(order, "replace")


class _Unreadable(Exception):
    """A record that is none."""


def _read(image: PillowImage.Image, data: bytes) -> ImageFile:
    name = str(image.format).lower()
    sources = _Sources(image)
    record, generation = sources.record(), sources.generation()
    return ImageFile(
        format=name,
        lossless=name in _LOSSLESS or (name == "webp" and _is_lossless_webp(data)),
        pixels=np.asarray(image) if image.mode == "RGB" else read_picture(image).pixels,
        record=record,
        generation=generation,
        digital_source_type=sources.xmp.digital_source_type,
        problems=tuple(sources.problems),
    )


def _parsed(text: str) -> Mapping[str, Any]:
    if len(text) > LONGEST_RECORD:
        raise _Unreadable(f"its record has more than {LONGEST_RECORD} characters")
    try:
        record = json.loads(text, parse_constant=_no_number)
        json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise _Unreadable("its record is not JSON that can be read") from error
    if not isinstance(record, dict) or not str(record.get("schema")).startswith(SCHEMAS):
        raise _Unreadable("its record is none of this service")
    return record


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _is_lossless_webp(data: bytes) -> bool:
    """Whether the picture lies in a `VP8L` chunk (WebP container specification, RFC 9649)."""
    place = _RIFF_HEAD
    while place + _CHUNK_HEAD <= len(data):
        kind = data[place : place + 4]
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        size = int.from_bytes(data[place + 4 : place + _CHUNK_HEAD], "little")
        place += _CHUNK_HEAD + size + size % 2
    return False
