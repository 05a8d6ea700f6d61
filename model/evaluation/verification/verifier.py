"""`verify`: every golden file of a folder, computed here and compared.

What is computed follows from a file's name; the format is that of `tests/golden/README.md`. What
goes wrong with one file is that file's miss and leaves the others alone.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from model.errors import GoldenFileError, ModelError
from model.evaluation.verification import (
    denoisers,
    guides,
    losses,
    quality,
    steps,
    tables,
    training,
    trajectories,
    vocabulary,
)
from model.evaluation.verification.fill import check_fill
from model.evaluation.verification.golden import Golden, NotRun, Setting, read_golden, read_records
from model.evaluation.verification.report import FileReport, Report, Status
from model.evaluation.verification.tolerance import Tolerances, read_tolerances

Computation = Callable[[Golden], None]

COMPUTATIONS: Mapping[str, Computation] = {
    "unet_*.npz": denoisers.check_glide,
    "unet_*_fp16.npz": denoisers.check_glide_half_mode,
    "adm_unet_*.npz": denoisers.check_adm,
    "adm_superres*.npz": denoisers.check_adm_super_resolution,
    "adm_classifier_*.npz": guides.check_classifier,
    "clip_*.npz": guides.check_clip,
    "steps_*.npz": steps.check_steps,
    "losses_*.npz": losses.check_losses,
    "traj_*.npz": trajectories.check_trajectory,
    "train_grads_*.npz": training.check_gradients,
    "schedules_deprecated*.npz": tables.check_deprecated_schedules,
    "schedules*.npz": tables.check_schedules,
    "respacing*.npz": tables.check_respacing,
    "timestep_embedding*.npz": tables.check_timestep_embedding,
    "ema*.npz": training.check_averaging,
    "resampler*.npz": training.check_resampler,
    "metrics*.npz": quality.check_metrics,
    "tokenizer.json": vocabulary.check_tokenizers,
    "fill_check.json": check_fill,
}
"""What is computed for a file, by its name; the longest pattern that fits wins."""

ABOUT = ("README.md", "MANIFEST.txt", "tolerances.json")
"""Files that say something of the others."""


def golden_files(folder: Path) -> list[Path]:
    """The files that lie directly in a folder, by name, but for those about them.

    Raises:
        OSError: there is no such folder.
    """
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name not in ABOUT)


def verify_folder(
    folder: Path, setting: Setting, watch: Callable[[str], None] = lambda name: None
) -> Report:
    """Verifies every file of a folder.

    Args:
        folder: golden files and, if there are entries for them, `tolerances.json`.
        setting: where and how precisely to compute.
        watch: is told the name of each file before it is computed.

    Raises:
        OSError: there is no such folder.
        GoldenFileError: `tolerances.json` is damaged.
    """
    tolerances = read_tolerances(folder)
    reports = []
    for path in golden_files(folder):
        watch(path.name)
        reports.append(verify_file(path, tolerances, setting))
    return Report(tuple(reports))


def verify_file(path: Path, tolerances: Tolerances, setting: Setting) -> FileReport:
    """Computes what a file's name stands for and compares every array.

    Args:
        path: of the file.
        tolerances: the entries of its folder's `tolerances.json`.
        setting: where and how precisely to compute.
    """
    start = time.perf_counter()
    pattern = computation_of(path.name)
    golden: Golden | None = None
    status, problems = Status.MISSED, []
    try:
        if pattern is None:
            raise GoldenFileError("the format has no file of that name")
        golden = _read(path, tolerances.get(path.name, {}), setting)
        with _exact(), torch.no_grad():
            COMPUTATIONS[pattern](golden)
        problems += _left_over(golden)
    except NotRun as reason:
        status, problems = Status.NOT_RUN, [f"not run: {reason}"]
    except Exception as error:  # noqa: BLE001 - whatever a file makes go wrong is its miss
        problems.append(_sentence(error))
        problems += [f"{name}: not compared" for name in golden.untouched()] if golden else []
    comparisons = tuple(golden.comparisons) if golden else ()
    if not problems and all(each.passed for each in comparisons):
        status = Status.PASSED
    seconds = time.perf_counter() - start
    return FileReport(path.name, pattern or "", status, comparisons, tuple(problems), seconds)


def computation_of(file: str) -> str | None:
    """The pattern of `COMPUTATIONS` that a file's name belongs to; None for an unknown name."""
    fitting = [pattern for pattern in COMPUTATIONS if fnmatchcase(file, pattern)]
    return max(fitting, key=len, default=None)


def _read(path: Path, tolerances: Mapping[str, Any], setting: Setting) -> Golden:
    read = read_golden if path.suffix == ".npz" else read_records
    return read(path, tolerances, setting)


def _left_over(golden: Golden) -> list[str]:
    unknown = [f"{name}: the format has no array of that name" for name in golden.untouched()]
    unknown += golden.problems
    if not golden.comparisons and not unknown:
        return ["the file holds nothing to compare"]
    return unknown


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ModelError) else f"{type(error).__name__}: {text}"


@contextmanager
def _exact() -> Iterator[None]:
    """Float32 products in float32, not in the shorter formats that devices offer for speed."""
    convolutions = torch.backends.cudnn.allow_tf32
    products = torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)
