import errno
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.errors import NotFound, Unavailable
from service.store.filesystem import FilesystemStore

KEY = "job_01/0.17.png"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def store(root: Path) -> FilesystemStore:
    return FilesystemStore(root)


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_an_image_comes_back_as_it_was_put(store: FilesystemStore, root: Path) -> None:
    store.put(KEY, b"\x89PNG\r\n")
    assert store.get(KEY) == b"\x89PNG\r\n"
    assert files_below(root) == [KEY]


def test_a_later_put_replaces_the_earlier(store: FilesystemStore) -> None:
    store.put(KEY, b"first, and longer")
    store.put(KEY, b"second")
    assert store.get(KEY) == b"second"


def test_an_unknown_key_is_not_found(store: FilesystemStore) -> None:
    with pytest.raises(NotFound):
        store.get(KEY)


def test_deleting_forgets_the_image_and_its_empty_folder(
    store: FilesystemStore, root: Path
) -> None:
    store.put(KEY, b"0")
    store.put("job_01/1.17.png", b"1")
    store.delete(KEY)
    assert files_below(root) == ["job_01/1.17.png"]
    store.delete("job_01/1.17.png")
    assert not (root / "job_01").exists()
    store.delete(KEY)
    with pytest.raises(NotFound):
        store.get(KEY)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "../secret",
        "job_01/../../secret",
        "job_01/./0.png",
        "job_01//0.png",
        ".incoming/0.png",
        "job_01/.hidden",
        "job_01/0.png\n",
        "job_01/0\x00.png",
        "job_01\\0.png",
        "a/" * 4 + "b",
        "x" * 129,
    ],
)
def test_a_key_can_not_leave_the_root(store: FilesystemStore, key: str) -> None:
    for act in (store.get, store.delete, lambda key: store.put(key, b"")):
        with pytest.raises(ValueError, match="not the key"):
            act(key)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_unavailable_and_leaves_nothing(
    store: FilesystemStore, root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="disk full") as raised:
        store.put(KEY, b"data")
    assert raised.value.retryable
    assert files_below(root) == []


def test_what_the_system_refuses_is_unavailable(store: FilesystemStore, root: Path) -> None:
    root.parent.mkdir(exist_ok=True)
    root.write_text("a file where the folder should be")
    with pytest.raises(Unavailable, match="can't be stored"):
        store.put(KEY, b"data")
    with pytest.raises(Unavailable, match="can't be read"):
        store.get(KEY)


def test_a_replaced_image_is_never_seen_in_part(store: FilesystemStore) -> None:
    contents = [bytes([value]) * 200_000 for value in range(8)]
    store.put(KEY, contents[0])
    with ThreadPoolExecutor(4) as pool:
        puts = [pool.submit(store.put, KEY, content) for content in contents]
        reads = [pool.submit(store.get, KEY) for _ in range(40)]
        assert all(read.result() in contents for read in reads)
        assert [put.result() for put in puts] == [None] * len(contents)


def test_puts_and_deletes_of_neighbours_do_not_disturb_each_other(store: FilesystemStore) -> None:
    def churn(index: int) -> None:
        key = f"job_01/{index}.1.png"
        for _ in range(40):
            store.put(key, b"data")
            assert store.get(key) == b"data"
            store.delete(key)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(churn, index) for index in range(4)]:
            done.result()


def test_sweeping_removes_what_crashes_and_expired_jobs_left(
    store: FilesystemStore, root: Path
) -> None:
    store.put("job_old/0.1.png", b"old")
    store.put(KEY, b"new")
    (root / ".incoming" / "half").write_bytes(b"ha")
    (root / ".incoming" / "being-written").write_bytes(b"be")
    now_s = time.time()
    for name in (".incoming/half", "job_old/0.1.png"):
        os.utime(root / name, (now_s - 900, now_s - 900))

    assert store.sweep(incoming_before_s=now_s - 600) == 1
    assert files_below(root) == [".incoming/being-written", KEY, "job_old/0.1.png"]
    assert store.sweep(incoming_before_s=now_s - 600, images_before_s=now_s - 600) == 1
    assert files_below(root) == [".incoming/being-written", KEY]
    assert not (root / "job_old").exists()


def test_sweeping_before_the_first_image_does_nothing(store: FilesystemStore, root: Path) -> None:
    assert store.sweep(incoming_before_s=time.time(), images_before_s=time.time()) == 0
    assert not root.exists()


def test_a_relative_root_survives_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = FilesystemStore(Path("images"))
    monkeypatch.chdir("/")
    store.put(KEY, b"data")
    assert stat.S_ISREG((tmp_path / "images" / KEY).stat().st_mode)
