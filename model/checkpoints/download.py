"""One file over HTTP: interrupted, resumed, whole or not there. Torch-free.

What has come so far lies in `NAME.part`, with the server's own mark of its version beside it; only
a whole file gets its name. Knows neither weights nor checksums. HTTP range requests: RFC 9110 §14.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import httpx

from model.errors import DownloadError

Report = Callable[[int, int | None], None]
"""Hears how many bytes of a file are there, and of how many, where that is known."""

RETRIES = 5
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Interrupted(Exception):
    """The answer ended early; its text says how."""


def part_of(target: Path) -> Path:
    """Where a file lies while it is incomplete."""
    return target.with_name(f"{target.name}.part")


def discard_part(target: Path) -> None:
    """Forgets what has come of a file so far."""
    part_of(target).unlink(missing_ok=True)
    _mark_of(target).unlink(missing_ok=True)


def remote_size(client: httpx.Client, url: str) -> int | None:
    """Size in bytes of a file on a server, or None where it doesn't say.

    Raises:
        DownloadError: there is no such file, or the server can't be reached.
    """
    try:
        answer = client.head(url, headers={"accept-encoding": "identity"})
    except httpx.TransportError as error:
        raise _unreachable(url, error) from error
    if answer.status_code in (404, 410):
        raise DownloadError(f"{url} isn't there (status {answer.status_code})")
    length = answer.headers.get("content-length", "")
    return int(length) if answer.is_success and length.isdigit() else None


def download(
    client: httpx.Client,
    url: str,
    target: Path,
    report: Report,
    pause: Callable[[float], None],
) -> None:
    """Fetches a file, from where an earlier call was interrupted.

    Args:
        client: with its timeouts.
        url: the file.
        target: its name once it is whole.
        report: hears of progress.
        pause: waits some seconds before another try.

    Raises:
        DownloadError: the server refuses, or broke off `RETRIES` times without a byte in between.
        OSError: the disk refuses.
    """
    failures = 0
    while True:
        before = _size(part_of(target))
        try:
            _fetch_rest(client, url, target, report)
            break
        except (httpx.TransportError, _Interrupted) as error:
            failures = 1 if _size(part_of(target)) > before else failures + 1
            if failures > RETRIES:
                raise _unreachable(url, error) from error
            pause(0.5 * 2**failures)
    part_of(target).replace(target)
    _mark_of(target).unlink(missing_ok=True)


def _fetch_rest(client: httpx.Client, url: str, target: Path, report: Report) -> None:
    part, mark = part_of(target), _read_mark(target, url)
    have = _size(part) if mark else 0
    headers = {"accept-encoding": "identity"}  # the bytes themselves, whatever their type
    if have and mark:
        headers |= {"range": f"bytes={have}-", "if-range": mark}
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code in _TRANSIENT:
            raise _Interrupted(f"status {answer.status_code}")
        if answer.status_code == 416 and _total(answer) == have:
            return
        if answer.status_code == 416:
            discard_part(target)
            raise _Interrupted("the file has changed")
        if answer.status_code not in (200, 206):
            raise DownloadError(f"{url} can't be fetched (status {answer.status_code})")
        have = have if answer.status_code == 206 else 0
        if answer.status_code == 206 and not _continues(answer, have):
            raise DownloadError(f"{url} answers another range than the one asked for")
        _write_mark(target, url, answer)
        with part.open("r+b" if have else "wb") as file:
            file.truncate(have)
            file.seek(have)
            _copy(answer, file, have, report)


def _copy(answer: httpx.Response, file: IO[bytes], have: int, report: Report) -> None:
    total = _total(answer)
    report(have, total)
    for chunk in answer.iter_raw():
        file.write(chunk)
        have += len(chunk)
        report(have, total)
    file.flush()
    os.fsync(file.fileno())
    if total is not None and have != total:
        raise _Interrupted(f"{have} of {total} bytes came")


def _continues(answer: httpx.Response, have: int) -> bool:
    """Whether a partial answer begins where the part ends."""
    return str(answer.headers.get("content-range", "")).startswith(f"bytes {have}-")


def _total(answer: httpx.Response) -> int | None:
    """Size of the whole file, where the answer says it."""
    if answer.status_code == 200:
        length = answer.headers.get("content-length", "")
    else:
        length = answer.headers.get("content-range", "").rpartition("/")[2]
    return int(length) if length.isdigit() else None


def _mark_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


def _read_mark(target: Path, url: str) -> str | None:
    """The server's mark of the version that the part is of; None: the part is of no use."""
    try:
        record = json.loads(_mark_of(target).read_text())
        return str(record["mark"]) if record["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_mark(target: Path, url: str, answer: httpx.Response) -> None:
    """Keeps the version's mark; a weak one can't promise equal bytes."""
    mark = answer.headers.get("etag", "")
    if not mark or mark.startswith("W/"):
        mark = answer.headers.get("last-modified", "")
    if mark:
        _mark_of(target).write_text(json.dumps({"url": url, "mark": mark}))
    else:
        _mark_of(target).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _unreachable(url: str, error: Exception) -> DownloadError:
    reason = str(error) or type(error).__name__
    return DownloadError(
        f"{url} can't be fetched: {reason}. What has come so far is kept: "
        "try again, set GLIDE_MODELS__MIRROR to another server, or give a folder with --from"
    )
