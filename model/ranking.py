"""Any CLIP that `transformers` reads from a folder, to rank the images of `best_of`.

The folder holds a model and its processor as `save_pretrained` writes them. Nothing is fetched, and
no program in the folder is run. Knows no pipeline.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.errors import CheckpointError


class FolderClip:
    """A CLIP of pictures without noise.

    Args:
        model: answers with `logits_per_image`.
        processor: makes its inputs of texts and images.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model = model
        self._processor = processor

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "FolderClip":
        """Reads a folder.

        Args:
            folder: as `save_pretrained` writes it.
            device: where the network goes; it is float32.

        Raises:
            CheckpointError: `transformers` isn't installed, or the folder holds no CLIP.
        """
        try:
            from transformers import AutoModel, AutoProcessor
        except ImportError as error:
            raise CheckpointError(
                f"The CLIP in {folder} needs the package transformers: pip install "
                "'glide-service[clip]'."
            ) from error
        try:
            model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
            processors: Any = AutoProcessor  # its methods have no types
            processor = processors.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # the library raises nothing narrower
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"{folder} holds no CLIP of transformers: {reason}") from error
        if not hasattr(model, "get_image_features"):
            raise CheckpointError(f"{folder} holds a {type(model).__name__}, which is no CLIP.")
        return cls(model.to(device).eval().requires_grad_(False), processor)

    @torch.no_grad()
    def scores(self, text: str, images: Sequence[NDArray[np.uint8]]) -> list[float]:
        """How well each image, (H, W, 3) uint8, fits a caption; higher is better."""
        inputs = self._processor(
            text=[text],
            images=list(images),
            return_tensors="pt",
            padding="max_length",
            truncation=True,
        )
        logits = self._model(**inputs.to(self._model.device)).logits_per_image  # (N, 1)
        found: list[float] = logits[:, 0].tolist()
        return found
