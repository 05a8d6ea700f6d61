"""Pixels to PNG, JPEG or WebP, with a record of how they came to be. Torch-free.

Every file says that a machine made it (XMP, IPTC's digital source type) and with which parameters:
a PNG in an `iTXt` chunk `glide`, the others in the Exif user comment. Knows no store and no queue.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from model.params import SamplingParams, Task
from service.jobs import ImageRecord, Job

CHUNK = "glide"
SCHEMA = "glide-provenance/1"
CONTENT_TYPES: Mapping[str, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
}
EXTENSIONS: Mapping[str, str] = {"png": "png", "jpeg": "jpg", "webp": "webp"}
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    "Iptc4xmpExt:DigitalSourceType="
    '"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)


def provenance(
    job_id: str | None, params: SamplingParams, index: int, seed: int, service_version: str
) -> dict[str, Any]:
    """What image `index` of a job was made from, drawn from `seed`.

    Making it again from these gives it again.
    """
    return {
        "schema": SCHEMA,
        "job_id": job_id,
        "model": params.model,
        "prompt": params.prompt,
        "negative_prompt": params.negative_prompt,
        "seed": seed,
        "steps": params.steps,
        "sampler": params.sampler.value,
        "guidance_scale": params.guidance_scale,
        "width": params.width,
        "height": params.height,
        "service_version": service_version,
        **_editing(params, index),
    }


def _editing(params: SamplingParams, index: int) -> dict[str, Any]:
    """What a picture from the prompt alone doesn't have."""
    defaults = SamplingParams()
    names = ("image", "mask", "label", "clip_guidance_scale", "classifier_guidance_scale")
    members = {name: getattr(params, name) for name in names}
    record = {name: value for name, value in members.items() if value != getattr(defaults, name)}
    if params.task is not Task.GENERATE:
        record["task"] = params.task.value
    if params.task is Task.VARIATION:
        record["strength"] = params.strength
    if params.task is Task.INTERPOLATION:
        record |= {"seed_to": params.seed_to, "frame": index, "frames": params.n}
    return record


def encode(pixels: NDArray[np.uint8], output_format: str, record: Mapping[str, Any]) -> bytes:
    """Writes pixels: (H, W, 3) uint8 as `png`, `jpeg` or `webp`, with `record` inside the file."""
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    canonical = canonical.encode("utf-8", "replace").decode()  # half a surrogate pair has no bytes
    image = PillowImage.fromarray(pixels, mode="RGB")
    buffer = io.BytesIO()
    if output_format == "png":
        image.save(buffer, "PNG", pnginfo=_png_chunks(canonical))
    else:
        exif = image.getexif()
        exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + canonical.encode("utf-16-be")
        quality = {"quality": 95, "subsampling": 0} if output_format == "jpeg" else {"quality": 95}
        image.save(buffer, output_format.upper(), exif=exif, xmp=_XMP.encode(), **quality)
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


def _png_chunks(canonical: str) -> PngInfo:
    chunks = PngInfo()
    chunks.add_itxt(CHUNK, canonical)
    chunks.add_itxt("XML:com.adobe.xmp", _XMP)
    return chunks
