"""From the engine's pixels to what may leave the worker: checked, encoded, with its record.

Torch-free; knows neither store nor queue.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.catalog import PipelineSpec
from model.checkpoints.fingerprint import pipeline_fingerprint
from service.errors import ImageRejected, ImageUnchecked, JobError
from service.imagefile.encoding import image_file, preview_png
from service.imagefile.provenance import Drawn, Maker
from service.jobs import Job
from service.policy import ImageCheck

_LONGEST_REASON = 500  # characters of the check's text that a client sees

logger = logging.getLogger(__name__)


class Finisher:
    """Makes files of finished images.

    Args:
        specs: the pipelines that draw here, by name.
        maker: what draws.
        check: the operator's, of every image; None: none.
    """

    def __init__(
        self, specs: Mapping[str, PipelineSpec], maker: Maker, check: ImageCheck | None = None
    ) -> None:
        self._specs = specs
        self._maker = maker
        self._check = check
        self._fingerprints: dict[str, str] = {}

    def image(self, job: Job, index: int, seed: int, pixels: NDArray[np.uint8]) -> bytes:
        """The file of a finished image.

        Args:
            job: whose image it is.
            index: its number in the job.
            seed: what it was drawn from.
            pixels: (H, W, 3) uint8.

        Raises:
            ImageRejected: the check refuses it.
            ImageUnchecked: the check failed.
            CheckpointError: the pipeline's files can't be read to tell which they are.
        """
        self._require(job, index, pixels, {"seed": seed, "preview": False})
        drawn = Drawn(
            job_id=job.id,
            params=job.params,
            index=index,
            seed=seed,
            output_format=job.output_format,
            pixels=pixels,
        )
        return image_file(drawn, self._maker, self._fingerprint(job.params.model), job.provenance)

    def preview(self, job: Job, index: int, pixels: NDArray[np.uint8]) -> bytes | None:
        """The file of a preview, (h, w, 3) uint8; None where the check lets it not pass."""
        try:
            self._require(job, index, pixels, {"seed": None, "preview": True})
        except JobError:
            return None
        return preview_png(pixels)

    def _fingerprint(self, model: str) -> str:
        """Of the files as they were when the first image was drawn with them."""
        if model not in self._fingerprints:
            self._fingerprints[model] = pipeline_fingerprint(self._specs[model])
        return self._fingerprints[model]

    def _require(
        self, job: Job, index: int, pixels: NDArray[np.uint8], more: Mapping[str, Any]
    ) -> None:
        if self._check is None:
            return
        facts = {
            "job_id": job.id,
            "tenant": job.tenant,
            "index": index,
            "model": job.params.model,
            "prompt": job.params.prompt,
            "negative_prompt": job.params.negative_prompt,
            **more,
        }
        try:
            refusal = self._check(pixels.copy(), facts)
        except Exception as error:
            logger.exception("image check failed", extra={"job_id": job.id})
            raise ImageUnchecked("The check of finished images failed: try again.") from error
        if refusal is not None:
            raise ImageRejected(f"The image was refused: {str(refusal)[:_LONGEST_REASON]}")
