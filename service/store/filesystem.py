"""The image store on a local or shared filesystem. Knows no job and no image format.

A key is a path below the root. A file is written beside the others in `.incoming`, made durable and
then renamed, so that a reader finds a whole image or none. Every method may run on any thread of
any process at the same time.
"""

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from service.errors import NotFound, Unavailable

# Every segment starts with a letter or a digit: no `..`, no hidden file, no absolute path.
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,127}){0,3}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_RENAME_ATTEMPTS = 8


class FilesystemStore:
    """Images as files below one folder, which is made with the first of them."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._incoming = self._root / ".incoming"

    def put(self, key: str, data: bytes) -> None:
        """Keeps `data` under `key`; see `ImageStore.put`."""
        target = self._path(key)
        with _os_errors(f"{key} can't be stored"):
            self._incoming.mkdir(parents=True, exist_ok=True)
            temporary = self._incoming / secrets.token_hex(16)
            try:
                _write_durably(temporary, data)
                _move(temporary, target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _sync_folders(target.parent, self._root)

    def get(self, key: str) -> bytes:
        """The bytes under `key`; see `ImageStore.get`."""
        path = self._path(key)
        with _os_errors(f"{key} can't be read"):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                raise NotFound(f"no image is kept under {key}") from None

    def refresh(self, key: str) -> bool:
        """Makes `key` as young as if it were put now; see `ImageStore.refresh`."""
        path = self._path(key)
        with _os_errors(f"{key} can't be refreshed"):
            try:
                os.utime(path)
            except FileNotFoundError:
                return False
            return True

    def delete(self, key: str) -> None:
        """Forgets `key` and the folders that this leaves empty; see `ImageStore.delete`."""
        path = self._path(key)
        with _os_errors(f"{key} can't be deleted"):
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self._root or not _remove_if_empty(folder):
                    break

    def sweep(self, *, incoming_before_s: float, images_before_s: float | None = None) -> int:
        """See `ImageStore.sweep`."""
        with _os_errors("the image store can't be swept"):
            deleted = sum(
                _delete_if_older(path, incoming_before_s) for path in self._incoming.glob("*")
            )
            if images_before_s is None:
                return deleted
            for path in [path for path in self._root.glob("[!.]*/**/*") if path.is_file()]:
                if _delete_if_older(path, images_before_s):
                    deleted += 1
                    self.delete(path.relative_to(self._root).as_posix())
            return deleted

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not the key of an image: {key!r}")
        return self._root / key


@contextlib.contextmanager
def _os_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = "disk full" if error.errno in _FULL else error.strerror or type(error).__name__
        raise Unavailable(f"{why}: {what}") from error


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _move(temporary: Path, target: Path) -> None:
    """Renames into a folder that a concurrent `delete` may be removing as empty."""
    for attempt in range(_RENAME_ATTEMPTS):
        try:
            # Even with exist_ok it fails when the folder it found is gone before it looks again.
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(target)
        except (FileNotFoundError, FileExistsError):
            if attempt == _RENAME_ATTEMPTS - 1:
                raise
        else:
            return


def _sync_folders(folder: Path, root: Path) -> None:
    """Makes the names durable: the file's, and those of the folders that may be new."""
    for path in (folder, *folder.parents):
        # A folder that a concurrent `delete` took away held only what somebody wanted deleted.
        with contextlib.suppress(FileNotFoundError):
            _sync_folder(path)
        if path == root:
            return


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _delete_if_older(path: Path, before_s: float) -> bool:
    try:
        if path.stat().st_mtime >= before_s:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True
