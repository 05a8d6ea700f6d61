import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model.checkpoints.download import RETRIES, download, part_of, remote_size
from model.errors import DownloadError
from tests.file_server import FileServer, file_server

CONTENT = random.Random(1).randbytes(900_000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "weights.pt").write_bytes(CONTENT)
    with file_server(folder) as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=10) as made:
        yield made


class Waits(list[float]):
    """The pauses that a download asked for; none is kept."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def _download(server: FileServer, client: httpx.Client, target: Path) -> Waits:
    waits = Waits()
    download(client, f"{server.url}/weights.pt", target, lambda *_: None, waits)
    return waits


def test_a_file_arrives_as_it_is_and_leaves_nothing_beside(
    server: FileServer, client: httpx.Client, tmp_path: Path
) -> None:
    target = tmp_path / "here" / "weights.pt"
    target.parent.mkdir()
    seen: list[tuple[int, int | None]] = []
    download(client, f"{server.url}/weights.pt", target, lambda *at: seen.append(at), Waits())
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


def test_interruptions_are_resumed_where_they_were(
    server: FileServer, client: httpx.Client, tmp_path: Path
) -> None:
    server.cuts["weights.pt"] = [300_000, 700_000]
    waits = _download(server, client, tmp_path / "weights.pt")
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT
    assert len(waits) == 2
    first, second, third = server.fetched("weights.pt")
    assert first == ""
    assert 0 < _start(second) <= 300_000 < _start(third) <= 700_000


def test_a_later_call_goes_on_with_what_an_earlier_one_left(
    server: FileServer, client: httpx.Client, tmp_path: Path
) -> None:
    target = tmp_path / "weights.pt"
    server.cuts["weights.pt"] = [400_000] * (RETRIES + 1)
    with pytest.raises(DownloadError, match="What has come so far is kept"):
        _download(server, client, target)
    assert not target.exists()
    kept = part_of(target).stat().st_size
    assert 0 < kept <= 400_000
    server.cuts.clear()
    _download(server, client, target)
    assert target.read_bytes() == CONTENT
    assert _start(server.fetched("weights.pt")[-1]) == kept


def test_a_file_that_changed_on_the_server_is_fetched_anew(
    server: FileServer, client: httpx.Client, tmp_path: Path
) -> None:
    server.cuts["weights.pt"] = [400_000] * (RETRIES + 1)
    with pytest.raises(DownloadError):
        _download(server, client, tmp_path / "weights.pt")
    server.cuts.clear()
    other = CONTENT[::-1] + b"!"
    (server.folder / "weights.pt").write_bytes(other)
    _download(server, client, tmp_path / "weights.pt")
    assert (tmp_path / "weights.pt").read_bytes() == other


def test_without_a_mark_of_its_version_nothing_is_resumed(
    server: FileServer, client: httpx.Client, tmp_path: Path
) -> None:
    server.marked = False
    server.cuts["weights.pt"] = [400_000]
    _download(server, client, tmp_path / "weights.pt")
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT
    assert server.fetched("weights.pt") == ["", ""]


def test_a_server_that_is_busy_is_asked_again(
    server: FileServer, client: httpx.Client, tmp_path: Path
) -> None:
    server.statuses["weights.pt"] = [503, 429]
    waits = _download(server, client, tmp_path / "weights.pt")
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT
    assert waits == sorted(waits)
    assert len(waits) == 2


def test_a_refusal_is_not_asked_twice(
    server: FileServer, client: httpx.Client, tmp_path: Path
) -> None:
    server.statuses["weights.pt"] = [403]
    with pytest.raises(DownloadError, match="403"):
        _download(server, client, tmp_path / "weights.pt")
    assert server.fetched("weights.pt") == [""]


def test_a_server_that_is_gone_says_what_to_do(client: httpx.Client, tmp_path: Path) -> None:
    waits = Waits()
    with pytest.raises(DownloadError, match=r"GLIDE_MODELS__MIRROR.*--from"):
        download(client, "http://127.0.0.1:1/a.pt", tmp_path / "a.pt", lambda *_: None, waits)
    assert len(waits) == RETRIES
    assert list(tmp_path.iterdir()) == []


def test_the_size_is_asked_first(server: FileServer, client: httpx.Client) -> None:
    assert remote_size(client, f"{server.url}/weights.pt") == len(CONTENT)
    with pytest.raises(DownloadError, match="404"):
        remote_size(client, f"{server.url}/nothing.pt")


def _start(span: str) -> int:
    return int(span.removeprefix("bytes=").removesuffix("-"))
