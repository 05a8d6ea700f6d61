"""Size and sha256 of every weight file, recorded on first use and checked ever after. Torch-free.

They lie in a `checksums.json` beside the files, or, for files that lie elsewhere, in the folder of
the pipeline that uses them. A file whose size and time of change are those of the record was
checked already and is not read again.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from model.catalog import PipelineSpec
from model.errors import CheckpointError

FILE_NAME = "checksums.json"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file was when it was recorded; `mtime_ns` is when it was last changed."""

    bytes: int
    sha256: str
    mtime_ns: int


def sha256_of(path: Path, report: Callable[[int], None] = lambda _read: None) -> str:
    """The digest of a file, in hex; `report` hears how many bytes each read brought."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            report(len(chunk))
    return digest.hexdigest()


def read_checksums(folder: Path) -> dict[str, Checksum]:
    """What the folder's `checksums.json` says, by file name; empty where there is none.

    Raises:
        CheckpointError: it is damaged.
    """
    path = folder / FILE_NAME
    try:
        record = json.loads(path.read_text())
        return {name: Checksum(**entry) for name, entry in record.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; delete it to start afresh") from error


def record_checksum(folder: Path, name: str, path: Path, sha256: str) -> None:
    """Adds a file to the folder's `checksums.json`, in one piece or not at all."""
    stat = path.stat()
    entries = read_checksums(folder)
    entries[name] = Checksum(stat.st_size, sha256, stat.st_mtime_ns)
    _write(folder, entries)


def forget_checksum(folder: Path, name: str) -> None:
    """Takes a file out of the folder's `checksums.json`."""
    entries = read_checksums(folder)
    if entries.pop(name, None) is not None:
        _write(folder, entries)


def check_file(path: Path, folder: Path, name: str) -> bool:
    """Whether a file is recorded; if so, it is what was recorded.

    Args:
        path: the file.
        folder: whose `checksums.json` may name it.
        name: its key there.

    Raises:
        CheckpointError: the file is not what was recorded.
        OSError: it can't be read.
    """
    entry = read_checksums(folder).get(name)
    if entry is None:
        return False
    stat = path.stat()
    if (stat.st_size, stat.st_mtime_ns) == (entry.bytes, entry.mtime_ns):
        return True
    if stat.st_size != entry.bytes:
        raise _changed(path, f"{stat.st_size} bytes", f"{entry.bytes}")
    found = sha256_of(path)
    if found != entry.sha256:
        raise _changed(path, f"sha256 {found}", entry.sha256)
    with contextlib.suppress(OSError):  # a folder that may only be read: then again next time
        record_checksum(folder, name, path, found)
    return True


def check_pipeline(spec: PipelineSpec) -> None:
    """Compares every weight file of a pipeline that is on record with its record.

    Raises:
        CheckpointError: a file is missing, or not what was recorded.
    """
    require_files(spec)
    for path in weight_files(spec):
        try:
            if not check_file(path, path.parent, path.name):
                check_file(path, spec.folder, str(path))
        except OSError as error:
            raise CheckpointError(f"{path} can't be read: {error.strerror}") from error


def weight_files(spec: PipelineSpec) -> tuple[Path, ...]:
    """Every weight file of a pipeline, its guides' too, each once; it may be missing."""
    each = [part.weights for part in spec.stages] + [part.weights for part in spec.guides]
    paths = (spec.folder / name for names in each for name in names)
    return tuple(dict.fromkeys(Path(os.path.normpath(path)) for path in paths))


def missing_files(spec: PipelineSpec) -> tuple[Path, ...]:
    """The weight files of a pipeline that are not there."""
    return tuple(path for path in weight_files(spec) if not path.exists())


def require_files(spec: PipelineSpec) -> None:
    """Returns when every weight file of a pipeline is there.

    Raises:
        CheckpointError: one is missing.
    """
    for path in missing_files(spec):
        raise CheckpointError(
            f"{path} of the pipeline {spec.name} is missing: put it back, or "
            f"`glide models remove {spec.name}` and pull or add it again"
        )


def _changed(path: Path, found: str, recorded: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged or was exchanged: it has {found}, on record is {recorded}; "
        "delete the file and pull it again"
    )


def _write(folder: Path, entries: dict[str, Checksum]) -> None:
    record = {name: asdict(entry) for name, entry in sorted(entries.items())}
    part = folder / f"{FILE_NAME}.part"
    part.write_text(json.dumps(record, indent=2) + "\n")
    part.replace(folder / FILE_NAME)
