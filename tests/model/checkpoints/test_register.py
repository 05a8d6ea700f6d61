from collections.abc import Callable
from pathlib import Path

import pytest

from model.catalog import BUILTIN_FOLDER, PipelineSpec, load_catalog
from model.checkpoints.checksums import check_pipeline, weight_files
from model.checkpoints.home import remove
from model.checkpoints.register import add
from model.checkpoints.sources import VOCABULARIES
from model.checkpoints.survey import survey
from model.errors import CheckpointError
from model.params import Task
from tests.released_files import write_released
from tests.tiny_pipeline import write_tiny_pipeline
from tests.vocabularies import vocabulary_file


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Path]]:
    folder = tmp_path_factory.mktemp("files")

    def paths(*architectures: str) -> list[Path]:
        found = [folder / f"{name}.pt" for name in architectures]
        for name, path in zip(architectures, found, strict=True):
            if not path.exists():
                write_released(path, name)
        return found

    return paths


Files = Callable[..., list[Path]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def _add(name: str, paths: list[Path], home: Path, vocabulary: Path | None = None) -> PipelineSpec:
    added = add(name, paths, home, lambda *_: None, vocabulary)
    found = load_catalog([home])[name]
    assert found == added
    return found


def test_files_are_told_apart_by_what_they_hold_and_stay_where_they_are(
    files: Files, home: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / "x.pt", tmp_path / "y.pt", tmp_path / "z.pt"]
    originals = files("adm-classifier-64", "adm-64-256-upsampler", "adm-64")
    for path, original in zip(paths, originals, strict=True):
        path.write_bytes(original.read_bytes())
    spec = _add("mine", paths, home)
    assert [stage.architecture for stage in spec.stages] == ["adm-64", "adm-64-256-upsampler"]
    assert [guide.architecture for guide in spec.guides] == ["adm-classifier-64"]
    assert (spec.sizes, spec.classes, spec.context) == ((64, 256), 1000, 0)
    assert set(weight_files(spec)) == set(paths)
    check_pipeline(spec)
    paths[0].write_bytes(b"another")
    with pytest.raises(CheckpointError, match=r"x\.pt is damaged or was exchanged"):
        check_pipeline(spec)


def test_a_folder_of_files_is_taken_whole(files: Files, home: Path, tmp_path: Path) -> None:
    write_released(tmp_path / "adm" / "one.pt", "adm-256-uncond")
    write_released(tmp_path / "adm" / "two.pt", "adm-classifier-256")
    spec = _add("cats", [tmp_path / "adm"], home)
    assert spec.base.architecture == "adm-256-uncond"
    assert spec.classes == 1000  # the classifier's: a label may lead an unconditional network


def test_networks_that_are_alike_are_told_apart_by_the_file_name(
    home: Path, tmp_path: Path
) -> None:
    write_released(tmp_path / "lsun_cat.pt", "adm-lsun")
    assert _add("cats", [tmp_path / "lsun_cat.pt"], home).base.steps == "1000"


def test_a_text_pipeline_gets_its_tokenizers(files: Files, home: Path) -> None:
    clip = ("glide-clip-text", "glide-clip-image")
    paths = files("glide-base", *clip)
    with pytest.raises(CheckpointError, match=r"encoder\.json.*pull vocab.*--vocab"):
        add("words", paths, home, lambda *_: None)
    assert not (home / "words").exists()
    spec = _add("words", paths, home, vocabulary_file("encoder.json").parent)
    assert spec.context == 128
    assert {path.name for path in spec.folder.iterdir()} == {
        "pipeline.json", "tokenizer.json", "clip_tokenizer.json", "checksums.json",
    }  # fmt: skip
    assert [Path(name).stem for name in spec.guides[0].weights] == list(reversed(clip))


def test_a_pipeline_folder_is_added_under_another_name(home: Path, tmp_path: Path) -> None:
    folder = write_tiny_pipeline(tmp_path / "tiny", base=16, upsampled=64).folder
    spec = _add("mine", [folder], home)
    assert spec.sizes == (16, 64)
    assert (spec.folder / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert {path.parent for path in weight_files(spec)} == {folder}
    check_pipeline(spec)


@pytest.mark.parametrize(
    ("architectures", "words"),
    [
        (["glide-upsample"], "one base network"),
        (["adm-64", "adm-128"], "one base network"),
        (["glide-base", "adm-64-256-upsampler"], "one that does is glide-upsample"),
        (["adm-128", "adm-64-256-upsampler"], "adm-128-512-upsampler"),
        (["adm-256", "adm-classifier-64"], "reads images of 64 px"),
        (["glide-base", "glide-clip-text"], "both glide-clip-image and glide-clip-text"),
        (["adm-256", "glide-clip-text", "glide-clip-image"], "a base network of 64 px"),
    ],
)
def test_networks_that_make_no_pipeline_say_what_would(
    architectures: list[str], words: str, files: Files, home: Path
) -> None:
    with pytest.raises(CheckpointError, match=words):
        add("odd", files(*architectures), home, lambda *_: None)
    assert not (home / "odd").exists()


def test_a_file_of_another_network_names_what_differs(home: Path, tmp_path: Path) -> None:
    write_released(tmp_path / "mine.pt", "adm-64", **{"label_emb.weight": (10, 768)})
    with pytest.raises(CheckpointError, match=r"mine\.pt.*adm-64.*label_emb\.weight \(10, 768\)"):
        add("odd", [tmp_path / "mine.pt"], home, lambda *_: None)


def test_truncated_native_and_missing_files_are_refused(home: Path, tmp_path: Path) -> None:
    folder = write_tiny_pipeline(tmp_path / "tiny").folder
    with pytest.raises(CheckpointError, match=r"base-1\.safetensors .* pipeline\.json"):
        add("odd", [folder / "base-1.safetensors"], home, lambda *_: None)
    shard = folder / "base-1.safetensors"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"base-1\.safetensors"):
        add("odd", [folder], home, lambda *_: None)
    with pytest.raises(CheckpointError, match="holds no weight files"):
        add("odd", [tmp_path], home, lambda *_: None)
    assert set(load_catalog([home])) == set(load_catalog())


@pytest.mark.parametrize("name", ["", "Mine", "a b", "../x", "openai", "vocab", ".x", "x" * 65])
def test_names_that_would_not_do_are_refused(name: str, files: Files, home: Path) -> None:
    with pytest.raises(CheckpointError, match="can't name a pipeline"):
        add(name, files("adm-64"), home, lambda *_: None)


def test_a_taken_name_is_refused_and_free_once_removed(files: Files, home: Path) -> None:
    first = _add("mine", files("adm-64"), home)
    with pytest.raises(CheckpointError, match="models remove mine"):
        add("mine", files("adm-128"), home, lambda *_: None)
    with pytest.raises(CheckpointError, match="scenes"):
        add("scenes", files("adm-128"), home, lambda *_: None)
    assert remove("mine", home, with_files=True) == [first.folder]
    assert all(path.exists() for path in weight_files(first))  # they were never ours
    assert _add("mine", files("adm-128"), home).sizes == (128,)


def test_only_what_was_added_can_be_removed(home: Path) -> None:
    with pytest.raises(CheckpointError, match="part of the program"):
        remove("scenes", home, with_files=False)
    with pytest.raises(CheckpointError, match="there are: none"):
        remove("nothing", home, with_files=False)
    assert (BUILTIN_FOLDER / "scenes" / "pipeline.json").exists()


def test_a_survey_says_what_a_pipeline_can_do_and_what_it_takes(files: Files, home: Path) -> None:
    spec = _add("mine", files("adm-64", "adm-classifier-64"), home)
    seen = survey(spec)
    assert Task.UPSCALE not in seen.tasks
    assert seen.guides == ("classifier",)
    assert seen.parameters == 295_904_454 + 65_438_568
    assert seen.memory_bytes["float32"] == 4 * seen.parameters
    assert 0.5 < seen.memory_bytes["float16"] / seen.memory_bytes["float32"] < 0.62
    assert (seen.missing, seen.problem) == ((), None)


def test_a_survey_names_missing_and_damaged_files(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    write_released(path, "adm-64")
    spec = _add("mine", [path], home)
    path.write_bytes(path.read_bytes()[:-10])
    damaged = survey(spec)
    assert damaged.problem is not None
    assert "mine.pt" in damaged.problem
    path.unlink()
    assert survey(spec).missing == (path,)


def test_the_tests_find_every_vocabulary() -> None:
    folder = vocabulary_file("encoder.json").parent
    names = {path.name.removesuffix(".gz") for path in folder.iterdir()}
    assert {source.name.removesuffix(".gz") for source in VOCABULARIES} <= names
