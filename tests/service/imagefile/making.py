"""An image as it leaves the engine, and what drew it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.params import SamplingParams
from service.imagefile.encoding import image_file
from service.imagefile.provenance import Drawn, Maker
from service.jobs import Provenance

MAKER = Maker(
    service_version="0.1.0",
    torch_version="2.13.0",
    dtype="float32",
    device="cpu",
    device_name="x86_64 AVX512",
)
MODEL_SHA256 = "ab" * 32
FORMATS = ("png", "jpeg", "webp")
PARAMS = SamplingParams(
    prompt="ein roter Apfel, 赤い\n🍎", negative_prompt="blur", seed=40, width=16, height=8, n=3
)


def pixels() -> NDArray[np.uint8]:
    """(8, 16, 3), no two pixels alike."""
    return np.arange(16 * 8 * 3, dtype=np.int64).reshape(8, 16, 3).astype(np.uint8)


def drawn(params: SamplingParams = PARAMS, output_format: str = "png", **members: Any) -> Drawn:
    """Image 2 of a job."""
    given: dict[str, Any] = {"job_id": "job_1", "index": 2, "seed": params.seed + 2} | members
    return Drawn(params=params, output_format=output_format, **{"pixels": pixels(), **given})


def file_of(
    params: SamplingParams = PARAMS,
    output_format: str = "png",
    level: Provenance = Provenance.FULL,
    **members: Any,
) -> bytes:
    """The file of that image."""
    return image_file(drawn(params, output_format, **members), MAKER, MODEL_SHA256, level)
