"""`pull`: a release's files are fetched, checked, recorded, and registered as pipelines.

Each file comes into `incoming/`, is checked there and only then gets its place; so an interrupted
pull leaves nothing half-registered, and the next one goes on where it stopped.
"""

import errno
import gzip
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import httpx

from model.catalog import PipelineSpec
from model.checkpoints.checksums import check_file, record_checksum, sha256_of
from model.checkpoints.download import discard_part, download, part_of, remote_size
from model.checkpoints.home import locked, vocabulary_folder, weights_folder
from model.checkpoints.recipes import assemble
from model.checkpoints.register import Report, check_architecture, write_pipeline
from model.checkpoints.sources import RELEASES, Release, Source
from model.errors import CheckpointError, DownloadError

MARGIN_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20


class Origin(Protocol):
    """Where files come from."""

    def size(self, source: Source) -> int:
        """Bytes of a file there, at least about.

        Raises:
            DownloadError: it isn't there.
        """

    def fetch(self, source: Source, target: Path, report: Report) -> None:
        """Brings a file whole, or leaves what can be resumed.

        Raises:
            DownloadError: it can't.
        """


class Web:
    """The publisher's servers, or one mirror of them all.

    Args:
        client: with its timeouts; it follows redirects.
        mirror: base URL that every file's name is appended to; None: the publisher.
        pause: waits some seconds before another try.
    """

    def __init__(
        self, client: httpx.Client, mirror: str | None, pause: Callable[[float], None]
    ) -> None:
        self._client = client
        self._mirror = mirror
        self._pause = pause

    def size(self, source: Source) -> int:
        """Bytes of a file on the server; the table's figure where it doesn't say."""
        return remote_size(self._client, self._url(source)) or source.bytes

    def fetch(self, source: Source, target: Path, report: Report) -> None:
        """Downloads a file, from where an earlier call was interrupted."""
        download(
            self._client,
            self._url(source),
            target,
            lambda done, total: report(source.name, done, total or source.bytes),
            self._pause,
        )

    def _url(self, source: Source) -> str:
        return f"{self._mirror.rstrip('/')}/{source.name}" if self._mirror else source.url


class Offline:
    """A folder that somebody has filled, with the files' own names or those with `.gz`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def size(self, source: Source) -> int:
        """Bytes of the file in the folder."""
        return max(self._path(source).stat().st_size, source.bytes if source.sha256 else 0)

    def fetch(self, source: Source, target: Path, report: Report) -> None:
        """Copies a file, unpacked where only a packed one is there."""
        path, part = self._path(source), part_of(target)
        packed = path.name != source.name
        total, done = (source.bytes if packed else path.stat().st_size), 0
        with gzip.open(path) if packed else path.open("rb") as file, part.open("wb") as copy:
            while chunk := file.read(_CHUNK_BYTES):
                copy.write(chunk)
                done += len(chunk)
                report(source.name, done, total)
        part.replace(target)

    def _path(self, source: Source) -> Path:
        for path in (self._folder / source.name, self._folder / f"{source.name}.gz"):
            if path.is_file():
                return path
        raise DownloadError(f"{self._folder} has no {source.name}")


def pull(name: str, home: Path, origin: Origin, report: Report) -> tuple[PipelineSpec, ...]:
    """Fetches a release and registers its pipelines.

    Args:
        name: a key of `RELEASES`.
        home: where files and pipelines go.
        origin: where the files come from.
        report: hears of progress.

    Raises:
        DownloadError: a file can't be fetched, or the disk has no room for all of them.
        CheckpointError: there is no such release, or a file is not what it should be.
    """
    if name not in RELEASES:
        raise CheckpointError(f"there is nothing to pull as {name!r}; there are: {_known()}")
    release = RELEASES[name]
    with locked(home):
        try:
            _fetch_all(release, home, origin, report)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise DownloadError(
                f"{home} is full: free some room and pull again, it goes on where it stopped; or "
                "set GLIDE_MODELS__HOME to another disk"
            ) from error
        return tuple(
            _register(pipeline, names, release, home, report)
            for pipeline, names in release.pipelines.items()
        )


def target_of(source: Source, home: Path) -> Path:
    """Where a file has its place."""
    folder = weights_folder(home) if source.architecture else vocabulary_folder(home)
    return folder / source.name


def _fetch_all(release: Release, home: Path, origin: Origin, report: Report) -> None:
    missing = [source for source in release.sources if not _is_here(source, home)]
    incoming = home / "incoming"
    incoming.mkdir(exist_ok=True)
    _require_room(missing, incoming, origin)
    for source in missing:
        arrived, target = incoming / source.name, target_of(source, home)
        if not arrived.exists():
            origin.fetch(source, arrived, report)
        try:
            digest = _verify(source, arrived)
        except CheckpointError:
            arrived.unlink()
            discard_part(arrived)
            raise
        target.parent.mkdir(exist_ok=True)
        arrived.replace(target)
        record_checksum(target.parent, target.name, target, digest)
    shutil.rmtree(incoming)


def _is_here(source: Source, home: Path) -> bool:
    """Whether a file has its place already, as recorded; one put there by hand is recorded now."""
    target = target_of(source, home)
    if not target.exists():
        return False
    if not check_file(target, target.parent, target.name):
        record_checksum(target.parent, target.name, target, _verify(source, target))
    return True


def _require_room(missing: list[Source], incoming: Path, origin: Origin) -> None:
    needed = sum(max(0, origin.size(source) - _have(incoming / source.name)) for source in missing)
    free = shutil.disk_usage(incoming).free
    if missing and needed + MARGIN_BYTES > free:
        raise DownloadError(
            f"{incoming.parent} has {free / 1e9:.1f} GB free and the files take "
            f"{needed / 1e9:.1f} GB: free some room, or set GLIDE_MODELS__HOME to another disk"
        )


def _have(arrived: Path) -> int:
    return sum(path.stat().st_size for path in (arrived, part_of(arrived)) if path.exists())


def _verify(source: Source, path: Path) -> str:
    """The file's digest, once its content is what the table says.

    Raises:
        CheckpointError: it is another file; the message names the first keys that differ.
    """
    digest = sha256_of(path)
    if source.sha256 is not None and digest != source.sha256:
        raise CheckpointError(
            f"{source.name} is not the file that its publisher released: sha256 {digest}, "
            f"expected {source.sha256}"
        )
    if source.architecture is not None:
        check_architecture(path, source.architecture)
    return digest


def _register(
    name: str, architectures: tuple[str, ...], release: Release, home: Path, report: Report
) -> PipelineSpec:
    files: Mapping[str, str] = {
        source.architecture: f"../{weights_folder(home).name}/{source.name}"
        for source in release.sources
        if source.architecture
    }
    spec = assemble(name, home / name, {each: files[each] for each in architectures})
    write_pipeline(spec, vocabulary_folder(home), report)
    return spec


def _known() -> str:
    return ", ".join(RELEASES)
