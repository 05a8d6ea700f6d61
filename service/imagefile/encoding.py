"""Pixels to PNG, JPEG or WebP, with a record of how they came to be. Torch-free.

Every file says that a machine made it, in XMP. A file that may say more carries its record: a PNG
in an `iTXt` chunk `glide`, the others as a property of their XMP; and the text that galleries read:
a PNG in a text chunk `parameters`, the others as Exif's user comment. Knows no store and no queue.
"""

import hashlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from service.imagefile.a1111 import generation_text
from service.imagefile.provenance import (
    Drawn,
    Maker,
    canonical_json,
    carried,
    digital_source_type,
    provenance,
)
from service.imagefile.xmp import LONGEST_PACKET, Xmp, extended, packet
from service.jobs import ImageRecord, Job, Provenance

CHUNK, TEXT_CHUNK, XMP_CHUNK = "glide", "parameters", "XML:com.adobe.xmp"
CONTENT_TYPES: Mapping[str, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
}
EXTENSIONS: Mapping[str, str] = {"png": "png", "jpeg": "jpg", "webp": "webp"}
EXIF_IFD, USER_COMMENT, UNICODE = 0x8769, 0x9286, b"UNICODE\0"
_LONGEST_COMMENT = 65_000
"""Bytes of a comment that fits, with the tables around it, into a JPEG's one Exif segment."""


def image_file(
    drawn: Drawn, maker: Maker, model_sha256: str, level: Provenance = Provenance.FULL
) -> bytes:
    """A finished image as a file.

    Args:
        drawn: the image.
        maker: what drew it.
        model_sha256: the pipeline's fingerprint.
        level: how much the file says.
    """
    record = carried(provenance(drawn, maker, model_sha256), level)
    source = digital_source_type(drawn.params.task)
    return encode(drawn.pixels, drawn.output_format, record, source)


def encode(
    pixels: NDArray[np.uint8],
    output_format: str,
    record: Mapping[str, Any] | None,
    digital_source: str,
) -> bytes:
    """Writes a file; the same arguments give the same bytes.

    Args:
        pixels: (H, W, 3) uint8.
        output_format: `png`, `jpeg` or `webp`.
        record: what the file says of its making; None: nothing.
        digital_source: IPTC's digital source type.
    """
    image = PillowImage.fromarray(pixels, mode="RGB")
    buffer = io.BytesIO()
    match output_format:
        case "png":
            image.save(buffer, "PNG", pnginfo=_png_chunks(record, digital_source))
        case "jpeg":
            _save_jpeg(image, buffer, record, digital_source)
        case _:
            xmp = packet(_said(record, digital_source))
            exif = _exif(image, record, most=None)
            image.save(buffer, output_format.upper(), exif=exif, xmp=xmp, quality=95)
    return buffer.getvalue()


def preview_png(pixels: NDArray[np.uint8]) -> bytes:
    """Writes a preview, (H, W, 3) uint8, as a bare PNG."""
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels, mode="RGB").save(buffer, "PNG")
    return buffer.getvalue()


def image_record(data: bytes, key: str, job: Job, index: int, seed: int) -> ImageRecord:
    """Describes an encoded image of a job, drawn from `seed`, as the queue keeps it."""
    return ImageRecord(
        index=index,
        key=key,
        content_type=CONTENT_TYPES[job.output_format],
        image_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        width=job.params.width,
        height=job.params.height,
        seed=seed,
    )


def image_key(job_id: str, index: int, token: str, output_format: str) -> str:
    """Where the store keeps an image; the token keeps a cut-off worker from replacing another's."""
    return f"{job_id}/{index}.{token}.{EXTENSIONS[output_format]}"


def _save_jpeg(
    image: PillowImage.Image,
    buffer: io.BytesIO,
    record: Mapping[str, Any] | None,
    digital_source: str,
) -> None:
    said = _said(record, digital_source)
    xmp, further = packet(said), b""
    if len(xmp) > LONGEST_PACKET:
        xmp, further = extended(said)
    exif = _exif(image, record, most=_LONGEST_COMMENT)
    image.save(buffer, "JPEG", exif=exif, xmp=xmp, extra=further, quality=95, subsampling=0)


def _png_chunks(record: Mapping[str, Any] | None, digital_source: str) -> PngInfo:
    chunks = PngInfo()
    if record is not None:
        chunks.add_text(TEXT_CHUNK, generation_text(record))
        chunks.add_itxt(CHUNK, canonical_json(record))
    chunks.add_itxt(XMP_CHUNK, packet(Xmp(digital_source)).decode())
    return chunks


def _said(record: Mapping[str, Any] | None, digital_source: str) -> Xmp:
    text = None if record is None else canonical_json(record, ascii_only=True)
    return Xmp(digital_source, text)


def _exif(
    image: PillowImage.Image, record: Mapping[str, Any] | None, most: int | None
) -> PillowImage.Exif:
    """Exif with the text that galleries read, where it fits."""
    exif = image.getexif()
    text = b"" if record is None else generation_text(record).encode("utf-16-be")
    if text and (most is None or len(text) <= most):
        exif.get_ifd(EXIF_IFD)[USER_COMMENT] = UNICODE + text
    return exif
