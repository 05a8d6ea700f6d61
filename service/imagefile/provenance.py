"""What a finished image says of its making: the record, and how much of it a file carries.

The record holds all that decides the pixels, so that the same request can be made again and the
result compared. Torch-free; knows no file format.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.params import SamplingParams, Task
from model.tasks import PICTURED
from service.jobs import Provenance

SCHEMA = "glide-provenance/2"
SCHEMAS = "glide-provenance/"
"""What every release's schema begins with."""

CAPTIONS = ("prompt", "negative_prompt")

_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
DRAWN_BY_A_MODEL = f"{_SOURCE_TYPES}trainedAlgorithmicMedia"
EDITED_BY_A_MODEL = f"{_SOURCE_TYPES}compositeWithTrainedAlgorithmicMedia"


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """The program and the machine that drew an image: they decide how its numbers were rounded.

    Attributes:
        service_version: of this service.
        torch_version: of torch.
        dtype: of the networks' bodies, such as `float32`.
        device: `cpu` or `cuda`.
        device_name: which one: the GPU's name, or the CPU's vector instructions.
    """

    service_version: str
    torch_version: str
    dtype: str
    device: str
    device_name: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """A finished image.

    Attributes:
        job_id: whose image it is; None where it was drawn without a server.
        params: of the whole request.
        index: k, the image's number in it.
        seed: what it was drawn from.
        output_format: `png`, `jpeg` or `webp`.
        pixels: (H, W, 3) uint8.
    """

    job_id: str | None
    params: SamplingParams
    index: int
    seed: int
    output_format: str
    pixels: NDArray[np.uint8]


def provenance(drawn: Drawn, maker: Maker, model_sha256: str) -> dict[str, Any]:
    """The whole record of an image, in JSON's types, and in characters that have bytes.

    `seed` is the image's own, `job_seed` that of the request; the rest of the request stands under
    the names of `SamplingParams`, defaults included.

    Args:
        drawn: the image.
        maker: what drew it.
        model_sha256: the pipeline's fingerprint.
    """
    params = drawn.params
    record = {
        **asdict(params),
        **asdict(maker),
        "schema": SCHEMA,
        "job_id": drawn.job_id,
        "index": drawn.index,
        "seed": drawn.seed,
        "job_seed": params.seed,
        "output_format": drawn.output_format,
        "model_sha256": model_sha256,
        "pixels_sha256": pixels_sha256(drawn.pixels),
    }
    if params.task is Task.INTERPOLATION:
        record |= {"frame": drawn.index, "frames": params.n}
    return plain(record)


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record in JSON's types, and in characters that have bytes."""
    text = json.dumps(record, ensure_ascii=False)
    found: dict[str, Any] = json.loads(text.encode("utf-8", "replace"))
    return found


def carried(record: Mapping[str, Any], level: Provenance) -> Mapping[str, Any] | None:
    """What of a record a file may carry; None: nothing."""
    match level:
        case Provenance.FULL:
            return record
        case Provenance.MINIMAL:
            return {name: value for name, value in record.items() if name not in CAPTIONS}
        case Provenance.NONE:
            return None


def digital_source_type(task: Task) -> str:
    """IPTC's word for how an image came to be: drawn, or edited from somebody's picture."""
    return EDITED_BY_A_MODEL if task in PICTURED else DRAWN_BY_A_MODEL


def pixels_sha256(pixels: NDArray[np.uint8]) -> str:
    """Hex digest of the raw RGB bytes, row by row; pixels: (H, W, 3) uint8."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def canonical_json(record: Mapping[str, Any], *, ascii_only: bool = False) -> str:
    """The record as JSON, sorted and without spaces.

    Args:
        record: JSON-ready.
        ascii_only: spell all else as escapes, for containers that can't hold every character.
    """
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=ascii_only)
