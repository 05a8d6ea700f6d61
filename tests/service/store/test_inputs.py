import hashlib
import os
import time
from pathlib import Path

import pytest

from service.errors import InputLost
from service.store.filesystem import FilesystemStore
from service.store.inputs import digest_of, fetch_input, is_digest, keep_input

DATA = b"a picture"


@pytest.fixture
def store(tmp_path: Path) -> FilesystemStore:
    return FilesystemStore(tmp_path)


def test_a_picture_is_kept_once_under_its_sha256(store: FilesystemStore, tmp_path: Path) -> None:
    digest = keep_input(store, DATA)
    assert keep_input(store, DATA) == digest == hashlib.sha256(DATA).hexdigest()
    assert [path.name for path in (tmp_path / "inputs").iterdir()] == [digest]
    assert fetch_input(store, digest) == DATA


def test_what_was_never_kept_is_lost(store: FilesystemStore) -> None:
    with pytest.raises(InputLost, match="upload it again"):
        fetch_input(store, digest_of(DATA))


def test_damage_is_noticed_and_mended_by_keeping_it_again(
    store: FilesystemStore, tmp_path: Path
) -> None:
    digest = keep_input(store, DATA)
    (tmp_path / "inputs" / digest).write_bytes(DATA[:-1])
    with pytest.raises(InputLost, match="damaged"):
        fetch_input(store, digest)
    keep_input(store, DATA)
    assert fetch_input(store, digest) == DATA


def test_a_use_saves_a_picture_from_the_sweep(store: FilesystemStore, tmp_path: Path) -> None:
    used, unused = keep_input(store, DATA), keep_input(store, b"another")
    now_s = time.time()
    for digest in (used, unused):
        os.utime(tmp_path / "inputs" / digest, (now_s - 900, now_s - 900))
    fetch_input(store, used)
    assert store.sweep(incoming_before_s=now_s - 600, images_before_s=now_s - 600) == 1
    assert fetch_input(store, used) == DATA
    with pytest.raises(InputLost):
        fetch_input(store, unused)


def test_refreshing_what_is_not_there_says_so(store: FilesystemStore) -> None:
    assert not store.refresh("inputs/none")
    with pytest.raises(ValueError, match="not the key"):
        store.refresh("../secret")


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 63 + "\n"])
def test_other_texts_are_no_digests(text: str) -> None:
    assert not is_digest(text)
    assert is_digest(digest_of(text.encode()))
