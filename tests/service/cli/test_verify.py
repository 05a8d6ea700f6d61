"""`glide verify`: its table, its record for scripts, and how it ends."""

import json
from pathlib import Path

import numpy as np
import pytest

from service.cli.main import app, main
from tests.model.evaluation import own_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    own_files.write_tolerances(tmp_path)
    for name in ("ema_own", "timestep_embedding_own", "unet_plain_text"):
        own_files.write(tmp_path, name)
    return tmp_path


def run(*arguments: str | Path) -> int:
    """The exit status."""
    with pytest.raises(SystemExit) as end:
        app(["verify", *map(str, arguments), "--device", "cpu"])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_a_folder_that_is_met_ends_with_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder) == 0
    out = capsys.readouterr().out
    assert "ema_own.npz" in out
    assert "3 files passed, 0 missed, 0 not run" in out


def test_every_array_can_be_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--arrays", "--dtype", "bfloat16") == 0
    out = capsys.readouterr().out
    for array in ("xf_proj", "xf_out_head", "time_emb_in", "num_params", "emb7", "emb64"):
        assert array in out


def test_a_miss_is_named_and_ends_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(folder / "what[ever].npz", a=np.zeros(2))
    with np.load(folder / "ema_own.npz") as file:
        np.savez(folder / "ema_own.npz", **{**file, "ema": file["ema"] + 1})
    assert run(folder) == 1
    out = capsys.readouterr().out
    assert "ema_own.npz: ema: off by 1, more than" in out
    assert "what[ever].npz: the format has no file of that name" in out
    assert "2 files passed, 2 missed, 0 not run" in out


def test_scripts_get_every_comparison(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(folder / "ema_own.npz") as file:
        off = file["ema"].copy()
        off[0, 0, 0] = np.inf
        np.savez(folder / "ema_own.npz", **{**file, "ema": off})
    assert run(folder, "--json") == 1
    record = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (record["passed"], record["device"], record["dtype"]) == (False, "cpu", "float32")
    files = {each["file"]: each for each in record["files"]}
    (miss,) = files["ema_own.npz"]["arrays"]
    assert (miss["name"], miss["passed"], miss["difference"]) == ("ema", False, None)
    assert files["unet_plain_text.npz"]["status"] == "passed"
    assert {each["name"] for each in files["unet_plain_text.npz"]["arrays"]} == {
        "num_params",
        "time_emb_in",
        "xf_proj",
        "xf_out_head",
        "out",
    }


def test_nothing_to_verify_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 1
    assert "no golden file" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere: No such file or directory"),
        ([".", "--dtype", "int8"], "--dtype is one of float32, float16, bfloat16, not int8."),
        ([".", "--device", "abacus"], "no device 'abacus'"),
    ],
)
def test_a_bad_request_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["glide", "verify", *arguments])
    with pytest.raises(SystemExit, match=sentence):
        main()
