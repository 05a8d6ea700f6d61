"""The folder that pulled and added pipelines live in: who is there, and who may change it.

    HOME/vocab/         vocabularies
    HOME/openai/        weight files that were pulled, and their checksums.json
    HOME/NAME/          one pipeline: pipeline.json and its tokenizers; its weights may lie anywhere

A folder is a pipeline once it has a `pipeline.json`, which is written last and removed first.
Torch-free.
"""

import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.catalog import BUILTIN_FOLDER, PipelineSpec, load_catalog
from model.checkpoints.checksums import forget_checksum, weight_files
from model.errors import CheckpointError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_RESERVED = frozenset({"openai", "vocab"})


def vocabulary_folder(home: Path) -> Path:
    """Where `encoder.json`, `vocab.bpe` and `bpe_simple_vocab_16e6.txt.gz` are put."""
    return home / "vocab"


def weights_folder(home: Path) -> Path:
    """Where OpenAI's weight files are put."""
    return home / "openai"


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Keeps every other process from changing the folder.

    Raises:
        CheckpointError: another one is at it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(
                f"another `glide models` is changing {home}: wait until it is done"
            ) from error
        yield


def check_name(name: str, home: Path) -> None:
    """Returns when a pipeline may be added under this name.

    Raises:
        CheckpointError: it isn't a name, or it is taken.
    """
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise CheckpointError(
            f"{name!r} can't name a pipeline: take up to 64 small letters, digits, '.', '_' and '-'"
            f", and none of {', '.join(sorted(_RESERVED))}"
        )
    if name in load_catalog([home]):
        raise CheckpointError(
            f"there is a pipeline {name!r} already: take another name, or `glide models remove "
            f"{name}` first"
        )


def remove(name: str, home: Path, *, with_files: bool) -> list[Path]:
    """Forgets a pipeline.

    Args:
        name: which.
        home: where it is registered.
        with_files: weight files that were pulled for it go too, unless another pipeline uses them.

    Returns:
        What was deleted.

    Raises:
        CheckpointError: there is none of that name here, or it isn't ours to remove.
    """
    with locked(home):
        catalog = load_catalog([home])
        spec = catalog.get(name)
        if spec is None:
            known = ", ".join(sorted(set(catalog) - set(load_catalog()))) or "none"
            raise CheckpointError(f"there is no pipeline {name!r} in {home}; there are: {known}")
        if spec.folder.parent == BUILTIN_FOLDER:
            raise CheckpointError(f"{name} is part of the program and stays")
        others = [other for other in catalog.values() if other.name != name]
        (spec.folder / "pipeline.json").unlink()
        shutil.rmtree(spec.folder)
        return [spec.folder, *(_unused_files(spec, others, home) if with_files else ())]


def _unused_files(spec: PipelineSpec, others: list[PipelineSpec], home: Path) -> list[Path]:
    kept = {path for other in others for path in weight_files(other)}
    gone = []
    for path in weight_files(spec):
        if path.parent == weights_folder(home) and path not in kept and path.exists():
            path.unlink()
            forget_checksum(path.parent, path.name)
            gone.append(path)
    return gone
