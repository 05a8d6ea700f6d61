"""One digest for all that decides what a pipeline draws: its networks, their files, its tokenizers.

Two pipelines with the same fingerprint draw the same pictures, whatever they are called and
wherever they lie: name, description, limits and the defaults of requests are left out, since a
request says them. Torch-free.
"""

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

from model.catalog import GuideSpec, PipelineSpec, StageSpec
from model.checkpoints.checksums import read_checksums, sha256_of
from model.errors import CheckpointError

DIGESTS = "digests.json"
"""Beside the shipped weights: sha256 by file name, for processes that have the rest alone."""

_TOKENIZERS = ("tokenizer.json", "clip_tokenizer.json")


def pipeline_fingerprint(spec: PipelineSpec) -> str:
    """The pipeline's sha256, 64 hex digits, equal in every process that knows its files.

    A file that is on record, and has not changed since, is not read; another is read once. One that
    is neither there nor on record counts as missing, which is a fingerprint of its own.

    Raises:
        CheckpointError: a file or a record can't be read.
    """
    described = {
        "stages": [_stage(spec, stage) for stage in spec.stages],
        "guides": [_guide(spec, guide) for guide in spec.guides],
        "context": spec.context,
        "classes": spec.classes,
        "tokenizers": [_digest(spec, name) for name in _TOKENIZERS],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def known_fingerprint(spec: PipelineSpec) -> str | None:
    """The pipeline's fingerprint; None where a file or a record of it can't be read."""
    try:
        return pipeline_fingerprint(spec)
    except CheckpointError:
        return None


def _stage(spec: PipelineSpec, stage: StageSpec) -> dict[str, object]:
    return {
        "name": stage.name,
        "resolution": stage.resolution,
        "schedule": stage.schedule,
        "timesteps": stage.timesteps,
        "prediction": stage.prediction,
        "variance": stage.variance,
        "architecture": stage.architecture,
        "round_low_res": stage.round_low_res,
        "weights": [_digest(spec, name) for name in stage.weights],
    }


def _guide(spec: PipelineSpec, guide: GuideSpec) -> dict[str, object]:
    return {
        "kind": guide.kind,
        "architecture": guide.architecture,
        "weights": [_digest(spec, name) for name in guide.weights],
    }


def _digest(spec: PipelineSpec, name: str) -> str | None:
    """The sha256 of a file of the pipeline; None where it is neither there nor on record."""
    path = Path(os.path.normpath(spec.folder / name))
    places = ((path.parent, path.name), (spec.folder, str(path)))
    entries = [read_checksums(folder).get(key) for folder, key in places]
    records = [entry for entry in entries if entry is not None]
    try:
        stat = path.stat()
        for entry in records:
            if (entry.bytes, entry.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
                return entry.sha256
        return _read(path, stat.st_size, stat.st_mtime_ns)
    except FileNotFoundError:
        return records[0].sha256 if records else _shipped_digest(path)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from error


@lru_cache(maxsize=256)
def _read(path: Path, _size: int, _mtime_ns: int) -> str:
    return sha256_of(path)


def _shipped_digest(path: Path) -> str | None:
    record = path.parent / DIGESTS
    try:
        digest = json.loads(record.read_text()).get(path.name)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{record} is damaged: {error}") from error
    return None if digest is None else str(digest)
