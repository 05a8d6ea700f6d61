"""From weight files to a registered pipeline: told apart by keys and shapes, checked, written down.

Nothing is registered before all of it has been checked.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from model.catalog import PipelineSpec, StageSpec, load_spec, save_spec
from model.checkpoints.architectures import ARCHITECTURES, build_network
from model.checkpoints.checksums import record_checksum, sha256_of, weight_files
from model.checkpoints.headers import read_header
from model.checkpoints.home import check_name, locked, vocabulary_folder
from model.checkpoints.native import check_weights, load_weights, shapes_of, weight_differences
from model.checkpoints.openai import explain, identify
from model.checkpoints.recipes import assemble
from model.checkpoints.sources import CLIP_VOCABULARY, ENCODER, MERGES
from model.errors import CheckpointError
from model.text.bpe import clip_tokenizer, gpt2_tokenizer

Report = Callable[[str, int, int | None], None]
"""Hears, of a file, how many bytes are done, and of how many."""

TOKENIZERS = ("tokenizer.json", "clip_tokenizer.json")


def add(
    name: str, paths: Sequence[Path], home: Path, report: Report, vocabulary: Path | None = None
) -> PipelineSpec:
    """Registers local files under a name; they stay where they are.

    Args:
        name: the new pipeline's.
        paths: OpenAI's weight files in any order, a folder of them, or a pipeline's folder.
        home: where pipelines are registered.
        report: hears of progress.
        vocabulary: folder of the vocabularies; None: where they are pulled to.

    Raises:
        CheckpointError: the name is taken, a file is missing, damaged or unknown, or the files make
            no pipeline; nothing is registered.
    """
    with locked(home):
        check_name(name, home)
        paths = [path.absolute() for path in paths]
        if len(paths) == 1 and (paths[0] / "pipeline.json").exists():
            spec = _native(name, paths[0], home)
            write_pipeline(spec, paths[0], report)
        else:
            spec = assemble(name, home / name, identify_all(paths))
            write_pipeline(spec, vocabulary or vocabulary_folder(home), report)
        return spec


def identify_all(paths: Sequence[Path]) -> dict[str, str]:
    """Weight files by architecture.

    Raises:
        CheckpointError: one is missing, damaged or of no known network, or two are of the same.
    """
    found: dict[str, str] = {}
    for path in _files(paths):
        architecture = _architecture(path)
        if architecture in found:
            raise CheckpointError(f"{path} and {found[architecture]} are both {architecture}")
        found[architecture] = str(path)
    return found


def write_pipeline(spec: PipelineSpec, tokens: Path, report: Report) -> None:
    """Writes a pipeline's folder, its description last.

    Args:
        spec: the pipeline; files of it that lie elsewhere are recorded with their checksums.
        tokens: folder of the vocabularies, or of finished tokenizers.
        report: hears of progress.

    Raises:
        CheckpointError: a vocabulary is missing or damaged.
    """
    existed = spec.folder.exists()
    spec.folder.mkdir(parents=True, exist_ok=True)
    try:
        _write_tokenizers(spec, tokens)
        for path in weight_files(spec):
            if path.parent not in (spec.folder, spec.folder.parent / "openai"):
                _record(spec.folder, path, report)
        save_spec(spec)
    except BaseException:
        if not existed:
            shutil.rmtree(spec.folder)
        raise


def _files(paths: Sequence[Path]) -> list[Path]:
    files = [
        file for path in paths for file in (sorted(path.glob("*.pt")) if path.is_dir() else [path])
    ]
    for path in files:
        if path.suffix == ".safetensors":
            raise CheckpointError(
                f"{path} says nothing of its schedule: give the folder with its pipeline.json"
            )
    if not files:
        raise CheckpointError(f"{', '.join(map(str, paths))} holds no weight files (*.pt)")
    return files


def _architecture(path: Path) -> str:
    """The network that a file is of; where two are alike, the one that the file is named after."""
    names = identify(path)
    if not names:
        raise CheckpointError(f"{path} is of no network that is known here: {explain(path)}")
    return next((name for name in names if name.rpartition("-")[2] in path.stem), names[0])


def _native(name: str, folder: Path, home: Path) -> PipelineSpec:
    """The pipeline of another folder, as it will stand in ours."""
    spec = load_spec(folder)
    for stage in spec.stages:
        _check_stage(spec, stage)

    def absolute(weights: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(os.path.normpath(folder / file) for file in weights)

    return replace(
        spec,
        name=name,
        folder=home / name,
        stages=tuple(replace(each, weights=absolute(each.weights)) for each in spec.stages),
        guides=tuple(replace(each, weights=absolute(each.weights)) for each in spec.guides),
    )


def _check_stage(spec: PipelineSpec, stage: StageSpec) -> None:
    paths = [spec.folder / name for name in stage.weights]
    if stage.architecture is not None:
        for path in paths:
            check_architecture(path, stage.architecture)
        return
    config, weights = load_weights(paths)
    with torch.device("meta"):
        network = build_network(config)
    check_weights(weights, network.state_dict(), f"{spec.name}/{stage.name}")


def check_architecture(path: Path, architecture: str) -> None:
    """Returns when a file has an architecture's keys and shapes.

    Raises:
        CheckpointError: it hasn't; the message names the first keys that differ.
    """
    with torch.device("meta"):
        expected = shapes_of(ARCHITECTURES[architecture].build().state_dict())
    found = {key: torch.Size(info.shape) for key, info in read_header(path).items()}
    differences = weight_differences(found, expected)
    if differences:
        raise CheckpointError(f"{path.name} is not {architecture}: {differences}")


def _write_tokenizers(spec: PipelineSpec, tokens: Path) -> None:
    if (tokens / "pipeline.json").exists():
        for name in TOKENIZERS:
            if (tokens / name).exists():
                shutil.copyfile(tokens / name, spec.folder / name)
        return
    if spec.context:
        files = (_vocabulary(tokens, ENCODER.name), _vocabulary(tokens, MERGES.name))
        gpt2_tokenizer(*files).save(str(spec.folder / "tokenizer.json"))
    if any(guide.kind == "clip" for guide in spec.guides):
        file = _vocabulary(tokens, CLIP_VOCABULARY.name)
        clip_tokenizer(file).save(str(spec.folder / "clip_tokenizer.json"))


def _vocabulary(folder: Path, name: str) -> Path:
    """A vocabulary file, plain or compressed."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise CheckpointError(
        f"captions need {name}, which is not in {folder}: `glide models pull vocab`, or give its "
        "folder with --vocab"
    )


def _record(folder: Path, path: Path, report: Report) -> None:
    total, done = path.stat().st_size, 0

    def count(read: int) -> None:
        nonlocal done
        done += read
        report(path.name, done, total)

    record_checksum(folder, str(path), path, sha256_of(path, count))
