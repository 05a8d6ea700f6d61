import hashlib
import inspect
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.cli import remote, requests, sampling
from service.cli.main import main
from tests.service.some_pictures import picture
from tests.tiny_pipeline import write_tiny_pipeline

ROOT = Path(__file__).parents[3]
NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_tiny_pipeline(folder / "tiny", base=16, upsampled=64)
    return folder


def glide(
    *arguments: str, models: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GLIDE_")}
    own = {"GLIDE_MODELS__FOLDERS": json.dumps([str(models)]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "service.cli.main", *arguments],
        cwd=ROOT,
        env={**inherited, **own, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def _assert_one_sentence(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("glide: ")
    for word in words:
        assert word in lines[0]


def test_the_version_is_one_line(models: Path) -> None:
    done = glide("--version", models=models)
    assert done.returncode == 0
    assert len(done.stdout.split()) == 1


def test_models_are_listed_for_scripts_and_for_people(models: Path) -> None:
    (tiny,) = (
        model
        for model in json.loads(glide("models", "--json", models=models).stdout)
        if model["name"] == "tiny"
    )
    assert tiny["sizes"] == [16, 64]
    assert "tiny" in glide("models", models=models).stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--sampler", "euler"], "sampler"),
        (["--steps", "0"], "steps"),
        (["--steps", "1000000"], "steps"),
        (["--steps", "many"], "steps"),
        (["--guidance-scale", "nan"], "guidance_scale"),
        (["--size", "100"], "16x16"),
        (["-n", "99"], "/n"),
        (["-n", "0"], "/n"),
        (["--seed", "-1"], "seed"),
        (["--model", "nothing"], "nothing"),
        (["-o", "picture.gif"], "picture.gif"),
        (["--prompts", "prompts.txt"], "either"),
        (["--image", "none.png"], "none.png"),
        (["--image", __file__], "/image"),
        (["--mask", str(ROOT / "docs" / "samples.png")], "/image"),
        (["--task", "variation"], "/image"),
        (["--task", "paint"], "task"),
        (["--label", "3"], "/label"),
        (["--best-of", "4"], "/best_of"),
        (["--clip-guidance-scale", "1"], "/clip_guidance_scale"),
        (["--seed-to", "4"], "/n"),
    ],
)
def test_a_request_that_cannot_be_served_ends_with_one_sentence(
    arguments: list[str],
    word: str,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("GLIDE_MODELS__FOLDERS", json.dumps([str(models)]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["glide", "sample", "a cat", "--model", "tiny", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    sentence = caught.value.code
    assert isinstance(sentence, str)  # printed to standard error; the status is 1
    assert sentence.startswith("glide: ")
    assert word in sentence
    assert "\n" not in sentence
    assert list(tmp_path.iterdir()) == []


def test_a_missing_prompts_file_is_named(models: Path, tmp_path: Path) -> None:
    done = glide("sample", "--prompts", str(tmp_path / "none.txt"), "-o", "out", models=models)
    _assert_one_sentence(done, "none.txt", "No such file")


@pytest.mark.parametrize("command", ["api", "worker"])
def test_without_a_queue_the_parts_do_not_start(command: str, models: Path) -> None:
    _assert_one_sentence(glide(command, "--", models=models), "GLIDE_REDIS__URL")


@pytest.mark.parametrize("command", ["api", "worker", "serve"])
def test_a_redis_that_is_down_at_the_start_is_one_sentence(
    command: str, models: Path, tmp_path: Path
) -> None:
    port = [] if command == "worker" else ["--port", "0"]
    data = {"GLIDE_REDIS__URL": NOBODY, "GLIDE_DATA": str(tmp_path)}
    done = glide(command, *port, models=models, environment=data)
    _assert_one_sentence(done, "Redis")


def test_a_port_in_use_is_one_sentence(models: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = glide("serve", "--port", port, "--data", str(tmp_path), models=models)
    _assert_one_sentence(done, port, "in use", "--port")


def test_a_misspelled_setting_is_named(models: Path) -> None:
    done = glide("models", models=models, environment={"GLIDE_QUEUE__LEASE": "1"})
    _assert_one_sentence(done, "GLIDE_QUEUE__LEASE")


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_checkpoint_is_one_sentence(damage: str, tmp_path: Path) -> None:
    spec = write_tiny_pipeline(tmp_path / "tiny", base=16, upsampled=64)
    shard = spec.folder / spec.base.weights[0]
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-1000])
    done = glide("sample", "a cat", "--model", "tiny", "--size", "16", models=tmp_path)
    _assert_one_sentence(done, shard.name)


def test_sample_draws_a_picture_that_says_how_it_was_made(models: Path, tmp_path: Path) -> None:
    arguments = ["--model", "tiny", "--size", "16", "--steps", "2", "--seed", "7"]
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    for path in (first, second):
        done = glide("sample", "a red apple", "-o", str(path), *arguments, models=models)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(path)
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        record = json.loads(image.info["glide"])
        assert image.size == (16, 16)
    assert (record["prompt"], record["seed"], record["steps"]) == ("a red apple", 7, 2)


def test_sample_starts_from_a_picture_without_a_prompt(models: Path, tmp_path: Path) -> None:
    start, out = tmp_path / "start.png", tmp_path / "out.png"
    start.write_bytes(picture(16, 16))
    arguments = ["--image", str(start), "--strength", "0.5", "--seed", "1", "--steps", "2"]
    arguments += ["--model", "tiny", "--size", "16", "-o", str(out)]
    done = glide("sample", *arguments, models=models)
    assert done.returncode == 0, done.stderr
    with Image.open(out) as image:
        record = json.loads(image.info["glide"])
    assert (record["task"], record["strength"]) == ("variation", 0.5)
    assert record["image"] == hashlib.sha256(start.read_bytes()).hexdigest()


@pytest.mark.parametrize("command", ["sample", "submit", "demo"])
def test_nothing_to_draw_is_one_sentence(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["glide", command])
    with pytest.raises(SystemExit, match=r"glide: Give a prompt, .* --image, .* --label\."):
        main()


def test_every_command_that_draws_takes_the_same_options() -> None:
    commands = (sampling.sample, remote.submit, remote.demo)
    options = [set(inspect.signature(command).parameters) for command in commands]
    shared = set(requests.Drawing.__slots__) | {"prompt", "output"}
    assert shared >= {"image", "mask", "strength", "seed_to", "best_of", "label"}
    assert [names - shared for names in options] == [
        {"prompts", "threads", "as_json"},
        {"url", "api_key", "as_json"},
        {"threads"},
    ]


def test_sample_draws_a_file_of_prompts_together(models: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red apple\n\na zebra on the grass\n")
    out = tmp_path / "out"
    arguments = ["--model", "tiny", "--size", "16", "--steps", "2", "--seed", "3", "-n", "2"]
    done = glide(
        "sample", "--prompts", str(prompts), "-o", str(out), *arguments, "--json", models=models
    )
    assert done.returncode == 0, done.stderr
    images = json.loads(done.stdout)["images"]
    names = ["000-0.png", "000-1.png", "001-0.png", "001-1.png"]
    assert [Path(image["path"]).name for image in images] == names
    assert [image["seed"] for image in images] == [3, 4, 4, 5]
    assert "zebra" in images[2]["warnings"][0]
    pictures = {(out / name).read_bytes() for name in names}
    assert len(pictures) == 4


def test_explain_draws_one_picture(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "docs" / "explain.png"
    done = glide("explain", "-o", str(path), "--steps", "8", "--model", "tiny", models=models)
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        assert image.format == "PNG"
        assert np.asarray(image).std() > 0
