"""How much memory a pipeline's weights take, from the headers of its files. Torch-free."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.catalog import PipelineSpec
from model.checkpoints.checksums import weight_files
from model.checkpoints.headers import read_header

_BODY = ("input_blocks.", "middle_block.", "output_blocks.")
_KERNEL_DIMENSIONS = 3
_FULL, _HALF = 4, 2


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a pipeline's weights take.

    Attributes:
        parameters: numbers in all its networks, its guides' too.
        bytes: of memory, by dtype of the networks' bodies.
    """

    parameters: int
    bytes: Mapping[str, int]


def footprint(spec: PipelineSpec) -> Footprint:
    """Measures a pipeline's files; only their headers are read, and kept while they don't change.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    paths = {path: _is_stage(spec, path) for path in weight_files(spec)}
    tensors = [
        (info, stage and key.startswith(_BODY) and len(info.shape) >= _KERNEL_DIMENSIONS)
        for path, stage in paths.items()
        for key, info in read_header(path).items()
    ]
    parameters = sum(info.size for info, _ in tensors)
    kernels = sum(info.size for info, kernel in tensors if kernel)
    full, half = _FULL * parameters, _FULL * parameters - (_FULL - _HALF) * kernels
    return Footprint(parameters, {"float32": full, "float16": half, "bfloat16": half})


def _is_stage(spec: PipelineSpec, path: Path) -> bool:
    """Only the kernels of a stage's body leave float32; embeddings, norms and guides stay."""
    names = (name for stage in spec.stages for name in stage.weights)
    return path in {Path(os.path.normpath(spec.folder / name)) for name in names}
