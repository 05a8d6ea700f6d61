"""`verify` passes what is right, in any valid configuration, and misses whatever is off."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.errors import GoldenFileError
from model.evaluation.verification.golden import Setting
from model.evaluation.verification.report import FileReport, Status
from model.evaluation.verification.tolerance import read_tolerances
from model.evaluation.verification.verifier import (
    computation_of,
    golden_files,
    verify_file,
    verify_folder,
)
from tests.model.evaluation import own_files
from tests.vocabularies import vocabulary_file

GOLDEN = Path(__file__).parents[2] / "golden"
CPU = Setting(torch.device("cpu"), torch.float32, None)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    own_files.write_tolerances(folder)
    for name in own_files.FILES:
        own_files.write(folder, name)
    return folder


def verified(path: Path, setting: Setting = CPU) -> FileReport:
    return verify_file(path, read_tolerances(path.parent), setting)


def assert_passed(report: FileReport) -> None:
    assert report.misses == ()
    assert report.status is Status.PASSED
    assert report.comparisons


@pytest.mark.parametrize("path", golden_files(GOLDEN), ids=lambda path: path.name)
def test_the_originals_numbers_are_met(path: Path) -> None:
    if path.name != "tokenizer.json":
        assert_passed(verified(path))
        return
    folders = {vocabulary_file(name).parent for name in ("encoder.json", "vocab.bpe")}
    assert_passed(verified(path, Setting(CPU.device, CPU.dtype, folders.pop())))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "name",
    ["unet_text2im_small", "unet_superres_inpaint_small", "adm_unet_new_order", "traj_ddim10_cfg3"],
)
def test_half_precision_stays_within_its_own_limits(name: str, dtype: torch.dtype) -> None:
    report = verified(GOLDEN / f"{name}.npz", Setting(CPU.device, dtype, None))
    assert_passed(report)
    measures = {each.array: each.measure.value for each in report.comparisons}
    assert measures["final" if name.startswith("traj") else "out"] == "rel L2"
    assert measures.get("time_emb_in", "max abs") == "max abs"


@pytest.mark.parametrize("name", sorted(own_files.FILES))
def test_a_configuration_of_our_own_passes(own: Path, name: str) -> None:
    assert_passed(verified(own / f"{name}.npz"))


@pytest.mark.parametrize("name", sorted(own_files.FILES))
def test_any_array_that_is_off_is_a_miss(own: Path, tmp_path: Path, name: str) -> None:
    """Every array that is compared is moved, all in one file: each must be missed."""
    before = verified(own / f"{name}.npz")
    moved = {each.array: each.limit for each in before.comparisons}
    moved.pop("x_t", None)  # also where the other arrays start from
    arrays, meta = stored(own / f"{name}.npz")
    for array in moved:
        if array in arrays:
            arrays[array] = spoiled(arrays[array], moved[array])
    if "num_params" in meta:
        meta["num_params"] += 1
    own_files.write_tolerances(tmp_path)
    report = verified(own_files.write(tmp_path, name, (arrays, meta)))
    assert report.status is Status.MISSED
    assert {each.array for each in report.comparisons if not each.passed} == set(moved)


def stored(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads(str(arrays.pop("meta_json")))


def spoiled(array: Any, limit: float) -> Any:
    """One value moved beyond its limit, or, where rows are compared as a share, all of them."""
    off = array.copy()
    if array.dtype.kind == "f":
        off.flat[-1] += 40 * limit + 2e-5 * abs(float(off.flat[-1]))
    else:
        off.flat[-1] += 1
    return off


Change = Callable[[dict[str, Any], dict[str, Any]], None]


def set_array(name: str, value: Any) -> Change:
    return lambda arrays, meta: arrays.update({name: value})


def without_meta(key: str) -> Change:
    def change(arrays: dict[str, Any], meta: dict[str, Any]) -> None:
        del meta[key]

    return change


def without_array(name: str) -> Change:
    def change(arrays: dict[str, Any], meta: dict[str, Any]) -> None:
        del arrays[name]

    return change


def nan_in(name: str) -> Change:
    def change(arrays: dict[str, Any], meta: dict[str, Any]) -> None:
        arrays[name].flat[0] = np.nan

    return change


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("ema_own", set_array("extra", np.zeros(2)), "extra: the format has no array"),
        ("ema_own", without_meta("rate"), "meta_json has no 'rate'"),
        ("ema_own", without_array("sources"), "the file has no array 'sources'"),
        ("ema_own", without_array("ema"), "nothing to compare"),
        ("ema_own", nan_in("ema"), "ema: the file holds NaN"),
        ("ema_own", nan_in("sources"), "ema: NaN"),
        ("ema_own", set_array("ema", np.zeros((2, 2), np.float32)), r"ema: shape \(5, 2, 3\)"),
        ("unet_old_style", without_meta("options"), "has no 'options'"),
        ("unet_old_style", without_meta("input_seed"), "has no 'input_seed'"),
        ("unet_plain_text", without_array("tokens"), "no array 'tokens'"),
        ("unet_half_known", without_array("mask"), "no array 'mask'"),
        ("traj_free", without_meta("cfg_scale"), "has no 'cfg_scale'"),
        ("traj_clip", without_array("noise"), "no array 'noise'"),
        ("steps_own", without_array("z"), "no array 'z'"),
        ("steps_own", set_array("x_t", np.zeros((3, 2, 4, 6), np.float32)), "x_t: off by"),
        ("losses_own", without_meta("cases"), "has no 'cases'"),
        ("train_grads_own", set_array("grad/nothing", np.zeros(1)), "no parameter 'nothing'"),
        ("schedules_own", without_meta("schedules"), "has no 'schedules'"),
        ("metrics_own", without_meta("k"), "has no 'k'"),
        ("timestep_embedding_own", without_meta("dims"), "neither 'dim' nor 'dims'"),
    ],
)
def test_what_a_file_lacks_or_has_too_much_is_a_miss(
    own: Path, tmp_path: Path, name: str, change: Change, sentence: str
) -> None:
    arrays, meta = stored(own / f"{name}.npz")
    change(arrays, meta)
    report = verified(own_files.write(tmp_path, name, (arrays, meta)))
    assert report.status is Status.MISSED
    assert any(re.search(sentence, miss) for miss in report.misses), report.misses


def test_an_unknown_file_and_a_damaged_one_leave_the_others_alone(
    own: Path, tmp_path: Path
) -> None:
    for name in ("ema_own.npz", "resampler_own.npz"):
        (tmp_path / name).write_bytes((own / name).read_bytes())
    (tmp_path / "steps_torn.npz").write_bytes((own / "steps_own.npz").read_bytes()[:5000])
    (tmp_path / "steps_no_meta.npz").write_bytes(b"")
    (tmp_path / "mystery.npz").write_bytes((own / "ema_own.npz").read_bytes())
    (tmp_path / "README.md").write_text("about")
    report = verify_folder(tmp_path, CPU)
    assert not report.passed
    assert {each.file: each.status.value for each in report.files} == {
        "ema_own.npz": "passed",
        "mystery.npz": "missed",
        "resampler_own.npz": "passed",
        "steps_no_meta.npz": "missed",
        "steps_torn.npz": "missed",
    }


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "ema_x.npz", meta_json=np.array("{}"), init=np.array([{}], object))
    report = verified(tmp_path / "ema_x.npz")
    assert report.status is Status.MISSED
    assert "can't be read" in report.misses[0]


def test_an_empty_folder_is_no_pass_and_a_missing_one_an_error(tmp_path: Path) -> None:
    assert not verify_folder(tmp_path, CPU).passed
    with pytest.raises(FileNotFoundError):
        verify_folder(tmp_path / "nowhere", CPU)


def test_without_a_vocabulary_the_tokenizers_are_not_run(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((GOLDEN / "tokenizer.json").read_bytes())
    report = verify_folder(tmp_path, Setting(CPU.device, CPU.dtype, tmp_path))
    assert not report.passed
    assert report.files[0].status is Status.NOT_RUN
    assert report.files[0].problems == ("not run: no vocabulary",)


def test_a_token_that_is_off_is_a_miss(tmp_path: Path) -> None:
    folder = vocabulary_file("encoder.json").parent
    record = json.loads((GOLDEN / "tokenizer.json").read_text())
    record["cases"] = record["cases"][:1]
    case = record["cases"][0]
    for key in ("bpe_tokens", "bpe_padded_128", "clip_tokens", "clip_padded_77"):
        case[key][-1] += 1
    for key in ("bpe_decoded", "clip_decoded"):
        case[key] += "\0"
    for key in ("bpe_padded_128_true_count", "clip_len"):
        case[key] += 1
    case["surprise"] = 1
    record["bpe"]["n_merges"] += 1
    (tmp_path / "tokenizer.json").write_text(json.dumps(record))
    report = verify_file(tmp_path / "tokenizer.json", {}, Setting(CPU.device, CPU.dtype, folder))
    missed = {each.array for each in report.comparisons if not each.passed}
    assert missed == {"bpe/n_merges"} | {f"cases[0]/{key}" for key in case} - {
        "cases[0]/text",
        "cases[0]/surprise",
    }
    assert report.problems == ("cases[0]/surprise: the format has no member of that name",)


def test_a_fill_that_is_off_is_a_miss(tmp_path: Path) -> None:
    record = json.loads((GOLDEN / "fill_check.json").read_text())
    for entry in record.values():
        entry["first4"][0] += 1e-5
    (tmp_path / "fill_check.json").write_text(json.dumps(record))
    missed = {
        each.array for each in verified(tmp_path / "fill_check.json").comparisons if not each.passed
    }
    assert missed == {f"{key}/first4" for key in record}


@pytest.mark.parametrize("text", ["[]", "{", '{"files": 1}'])
def test_damaged_tolerances_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tolerances.json").write_text(text)
    with pytest.raises(GoldenFileError):
        verify_folder(tmp_path, CPU)


@pytest.mark.parametrize("entry", [{}, {"suggest_atol": None}, {"suggest_atol": float("nan")}])
def test_a_tolerance_without_a_limit_is_a_miss(own: Path, entry: dict[str, Any]) -> None:
    report = verify_file(own / "ema_own.npz", {"ema_own.npz": {"ema": entry}}, CPU)
    assert report.status is Status.MISSED
    assert "suggest_atol" in report.misses[0]


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("unet_x_fp16.npz", "unet_*_fp16.npz"),
        ("unet_x.npz", "unet_*.npz"),
        ("schedules_deprecated.npz", "schedules_deprecated*.npz"),
        ("schedules.npz", "schedules*.npz"),
        ("adm_superres.npz", "adm_superres*.npz"),
        ("unet.npz", None),
        ("adm_x.npz", None),
        ("ema.npy", None),
        ("tokenizer_2.json", None),
    ],
)
def test_the_longest_pattern_names_the_computation(file: str, pattern: str | None) -> None:
    assert computation_of(file) == pattern
