"""What a registered pipeline can do, whether its files are there, and the memory they take.

All of it from `pipeline.json` and the headers of the weight files. Torch-free.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.catalog import PipelineSpec
from model.checkpoints.checksums import missing_files, weight_files
from model.checkpoints.headers import TensorInfo, read_header
from model.errors import CheckpointError
from model.params import Task

_NARROW_DIMENSIONS = {
    **dict.fromkeys(("input_blocks", "middle_block", "output_blocks"), 3),
    **dict.fromkeys(("transformer", "transformer_proj", "token_embedding"), 2),
}
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


@dataclass(frozen=True, slots=True)
class Survey:
    """A pipeline as its files are now.

    Attributes:
        tasks: what it can be asked for.
        guides: kinds of the networks whose gradient can guide it.
        parameters: numbers in all its networks; 0 while files are missing or damaged.
        memory_bytes: that they take, by dtype; empty while files are missing or damaged.
        missing: weight files that are not there.
        problem: what is wrong with a file, in a sentence.
    """

    tasks: tuple[Task, ...]
    guides: tuple[str, ...]
    parameters: int
    memory_bytes: Mapping[str, int]
    missing: tuple[Path, ...]
    problem: str | None


def survey(spec: PipelineSpec) -> Survey:
    """Looks at a pipeline's files; never fails for what it finds."""
    missing = missing_files(spec)
    found, problem = Footprint(0, {}), None
    try:
        found = found if missing else footprint(spec)
    except CheckpointError as error:
        problem = str(error)
    return Survey(
        tasks=_tasks(spec),
        guides=tuple(guide.kind for guide in spec.guides),
        parameters=found.parameters,
        memory_bytes=found.bytes,
        missing=missing,
        problem=problem,
    )


def _tasks(spec: PipelineSpec) -> tuple[Task, ...]:
    """Every task works with any network; only an upscale needs a second stage."""
    return tuple(task for task in Task if task is not Task.UPSCALE or len(spec.stages) > 1)


def footprint(spec: PipelineSpec) -> Footprint:
    """Measures a pipeline's files; only their headers are read, and kept while they don't change.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    tensors = [item for path in weight_files(spec) for item in read_header(path).items()]
    parameters = sum(info.size for _, info in tensors)
    narrow = sum(info.size for key, info in tensors if _may_be_narrow(key, info))
    full, half = _FULL * parameters, _FULL * parameters - (_FULL - _HALF) * narrow
    return Footprint(parameters, {"float32": full, "float16": half, "bfloat16": half})


def _may_be_narrow(key: str, info: TensorInfo) -> bool:
    """The rule of `model.networks.precision`, less the biases, told from names and shapes."""
    part = key.partition(".")[0]
    return len(info.shape) >= _NARROW_DIMENSIONS.get(part, math.inf)
