import hashlib
import os
from pathlib import Path

import pytest

from model.checkpoints.checksums import (
    FILE_NAME,
    check_file,
    forget_checksum,
    read_checksums,
    record_checksum,
    sha256_of,
)
from model.errors import CheckpointError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "base.pt"
    path.write_bytes(b"weights" * 1000)
    record_checksum(tmp_path, path.name, path, sha256_of(path))
    return path


def test_size_and_digest_are_recorded(path: Path) -> None:
    entry = read_checksums(path.parent)["base.pt"]
    assert entry.bytes == 7000
    assert entry.sha256 == hashlib.sha256(b"weights" * 1000).hexdigest()
    assert check_file(path, path.parent, "base.pt")


def test_a_file_that_nobody_recorded_is_not_checked(path: Path) -> None:
    forget_checksum(path.parent, "base.pt")
    assert not check_file(path, path.parent, "base.pt")


def test_a_byte_that_changed_is_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))  # or a coarse clock might show no change
    with pytest.raises(CheckpointError, match=r"base\.pt is damaged or was exchanged: .*sha256"):
        check_file(path, path.parent, "base.pt")


def test_a_size_that_changed_is_noticed(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="6999 bytes, on record is 7000"):
        check_file(path, path.parent, "base.pt")


def test_a_copy_with_another_time_is_read_once_and_well(path: Path) -> None:
    os.utime(path, ns=(5, 5))
    assert check_file(path, path.parent, "base.pt")
    assert read_checksums(path.parent)["base.pt"].mtime_ns == 5


@pytest.mark.parametrize("text", ["{", "[]", '{"base.pt": 3}', '{"base.pt": {"bytes": 1}}'])
def test_a_damaged_record_is_named(text: str, path: Path) -> None:
    (path.parent / FILE_NAME).write_text(text)
    with pytest.raises(CheckpointError, match=FILE_NAME):
        check_file(path, path.parent, "base.pt")
