import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model.catalog import load_catalog, load_spec
from model.checkpoints.checksums import FILE_NAME, check_pipeline, weight_files
from model.checkpoints.pull import Offline, Origin, Web, pull
from model.checkpoints.sources import RELEASES, VOCABULARIES
from model.errors import CheckpointError, DownloadError
from model.text.tokenizer import load_tokenizer
from tests.file_server import FileServer, file_server
from tests.released_files import write_released
from tests.vocabularies import vocabulary_file

NETWORK, CLASSIFIER = "64x64_diffusion.pt", "64x64_classifier.pt"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every network file of the releases `glide` and `adm-64`."""
    folder = tmp_path_factory.mktemp("published")
    for name in ("glide", "adm-64"):
        for source in RELEASES[name].sources:
            if source.architecture:
                write_released(folder / source.name, source.architecture)
    return folder


@pytest.fixture
def mirror(published: Path, tmp_path: Path) -> Iterator[FileServer]:
    folder = tmp_path / "mirror"
    folder.mkdir()
    for path in published.iterdir():
        os.link(path, folder / path.name)
    with file_server(folder) as server:
        yield server


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=10, follow_redirects=True) as made:
        yield made


@pytest.fixture
def web(mirror: FileServer, client: httpx.Client) -> Web:
    return Web(client, mirror.url + "/", lambda _seconds: None)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def _pull(name: str, home: Path, origin: Origin) -> list[str]:
    return [spec.name for spec in pull(name, home, origin, lambda *_: None)]


def _registered(home: Path) -> set[str]:
    return set(load_catalog([home])) - set(load_catalog())


def test_a_release_is_fetched_checked_recorded_and_registered(
    web: Web, home: Path, published: Path
) -> None:
    assert _pull("adm-64", home, web) == ["adm-64"]
    spec = load_catalog([home])["adm-64"]
    assert (spec.context, spec.classes, spec.sizes) == (0, 1000, (64,))
    assert [guide.kind for guide in spec.guides] == ["classifier"]
    assert [path.read_bytes() for path in weight_files(spec)] == [
        (published / name).read_bytes() for name in (NETWORK, CLASSIFIER)
    ]
    assert set(json.loads((home / "openai" / FILE_NAME).read_text())) == {NETWORK, CLASSIFIER}
    assert {path.name for path in home.iterdir()} == {".lock", "openai", "adm-64"}
    check_pipeline(spec)


def test_an_interrupted_pull_registers_nothing_and_goes_on_where_it_stopped(
    web: Web, mirror: FileServer, home: Path
) -> None:
    size = (mirror.folder / CLASSIFIER).stat().st_size
    mirror.cuts[CLASSIFIER] = [size // 2] * 6
    with pytest.raises(DownloadError, match="try again"):
        _pull("adm-64", home, web)
    assert _registered(home) == set()
    assert (home / "openai" / NETWORK).exists()
    assert not (home / "openai" / CLASSIFIER).exists()
    mirror.cuts.clear()
    mirror.requests.clear()
    assert _pull("adm-64", home, web) == ["adm-64"]
    assert mirror.fetched(NETWORK) == []
    assert mirror.fetched(CLASSIFIER) == [f"bytes={size // 2}-"]
    check_pipeline(load_spec(home / "adm-64"))


def test_what_is_there_is_not_fetched_again(web: Web, mirror: FileServer, home: Path) -> None:
    _pull("adm-64", home, web)
    mirror.requests.clear()
    assert _pull("adm-64", home, web) == ["adm-64"]
    assert mirror.requests == []


def test_a_file_put_there_by_hand_is_recorded_on_first_use(
    web: Web, mirror: FileServer, home: Path, published: Path
) -> None:
    (home / "openai").mkdir(parents=True)
    (home / "openai" / NETWORK).write_bytes((published / NETWORK).read_bytes())
    _pull("adm-64", home, web)
    assert mirror.fetched(NETWORK) == []
    assert NETWORK in json.loads((home / "openai" / FILE_NAME).read_text())


def test_a_file_that_was_exchanged_since_is_named(web: Web, home: Path) -> None:
    _pull("adm-64", home, web)
    (home / "openai" / NETWORK).write_bytes(b"something else")
    with pytest.raises(CheckpointError, match=rf"{NETWORK} is damaged or was exchanged"):
        _pull("adm-64", home, web)
    with pytest.raises(CheckpointError, match=NETWORK):
        check_pipeline(load_spec(home / "adm-64"))


@pytest.mark.parametrize("damage", ["another network", "truncated", "a web page", "one shape"])
def test_a_wrong_file_is_named_and_not_kept(
    damage: str, web: Web, mirror: FileServer, home: Path
) -> None:
    path = mirror.folder / NETWORK
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "another network":
            write_released(path, "adm-128")
        case "one shape":
            write_released(path, "adm-64", **{"out.2.weight": (3, 192, 3, 3)})
        case "truncated":
            path.write_bytes(content[:-100])
        case _:
            path.write_text("<html>Please log in</html>")
    words = {
        "another network": r"is not adm-64: missing: input_blocks\.\S+",
        "one shape": r"is not adm-64: of another shape: out\.2\.weight \(3, 192, 3, 3\), expected",
    }
    with pytest.raises(CheckpointError, match=words.get(damage, "not a whole weight file")):
        _pull("adm-64", home, web)
    assert _registered(home) == set()
    assert list((home / "incoming").iterdir()) == []
    path.unlink()
    path.write_bytes(content)
    assert _pull("adm-64", home, web) == ["adm-64"]


def test_a_disk_without_room_is_heard_of_before_anything_is_fetched(
    web: Web, mirror: FileServer, home: Path
) -> None:
    mirror.claims[CLASSIFIER] = 10**18
    with pytest.raises(DownloadError, match=r"1000000000\.\d GB: free some room, .*MODELS__HOME"):
        _pull("adm-64", home, web)
    assert mirror.fetched(NETWORK) == []


def test_without_a_network_the_sentence_says_what_else_there_is(
    client: httpx.Client, home: Path
) -> None:
    with pytest.raises(DownloadError, match=r"GLIDE_MODELS__MIRROR.*--from"):
        _pull("adm-64", home, Web(client, "http://127.0.0.1:1", lambda _seconds: None))
    assert _registered(home) == set()


def test_a_mirror_that_lacks_a_file_is_told(web: Web, mirror: FileServer, home: Path) -> None:
    (mirror.folder / CLASSIFIER).unlink()
    with pytest.raises(DownloadError, match=f"{CLASSIFIER} isn't there"):
        _pull("adm-64", home, web)


def test_a_folder_serves_without_a_network(published: Path, home: Path) -> None:
    assert _pull("adm-64", home, Offline(published)) == ["adm-64"]
    check_pipeline(load_spec(home / "adm-64"))
    assert (published / NETWORK).exists()


def test_a_folder_that_lacks_a_file_is_told(published: Path, home: Path) -> None:
    with pytest.raises(DownloadError, match=r"has no 128x128_diffusion\.pt"):
        _pull("adm-128", home, Offline(published))


def test_two_pulls_at_a_time_are_refused(web: Web, home: Path) -> None:
    home.mkdir()
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="another `glide models`"):
            _pull("adm-64", home, web)
    assert _pull("adm-64", home, web) == ["adm-64"]


def test_an_unknown_release_says_which_there_are(web: Web, home: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'dalle'; there are: glide, vocab, adm-64"):
        _pull("dalle", home, web)
    assert not home.exists()


def test_a_vocabulary_of_other_content_is_refused(tmp_path: Path, home: Path) -> None:
    for source in VOCABULARIES:
        (tmp_path / source.name).write_text("{}")
    with pytest.raises(CheckpointError, match=r"encoder\.json is not the file .* expected 1961396"):
        _pull("vocab", home, Offline(tmp_path))


def test_glide_becomes_two_pipelines_as_its_notebooks_use_it(
    web: Web, mirror: FileServer, home: Path
) -> None:
    for source in VOCABULARIES:
        packed = vocabulary_file("encoder.json").parent / f"{source.name.removesuffix('.gz')}.gz"
        (mirror.folder / packed.name).write_bytes(packed.read_bytes())
    _pull("vocab", home, Offline(mirror.folder))
    assert _pull("glide", home, web) == ["glide", "glide-inpaint"]
    catalog = load_catalog([home])
    base, upsample = catalog["glide"].stages
    assert (base.resolution, base.schedule, base.sampler, base.steps) == (
        64,
        "cosine",
        "ddpm",
        "100",
    )
    assert (upsample.resolution, upsample.schedule) == (256, "linear")
    assert (upsample.sampler, upsample.steps, upsample.temperature) == ("ddim", "fast27", 0.997)
    assert upsample.round_low_res
    assert catalog["glide"].guidance_scale == 3.0
    assert [guide.kind for guide in catalog["glide"].guides] == ["clip"]
    assert [stage.architecture for stage in catalog["glide-inpaint"].stages] == [
        "glide-base-inpaint",
        "glide-upsample-inpaint",
    ]
    for stage in (*catalog["glide"].stages, *catalog["glide-inpaint"].stages):
        assert (stage.prediction, stage.variance) == ("epsilon", "learned_range")
        assert stage.timesteps == 1000
    assert (home / "glide" / "clip_tokenizer.json").exists()
    for spec in (catalog["glide"], catalog["glide-inpaint"]):
        assert load_tokenizer(spec).encode("a cat").ids[:3] == (64, 3797, 50256)
        assert spec.context == 128
        check_pipeline(spec)
