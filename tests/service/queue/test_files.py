"""What is known of uploaded files: whose they are, in which order, and for how long."""

import time
from collections.abc import AsyncIterator

import pytest

from service.errors import InvalidRequest
from service.queue.files import FileRecord, Files, new_file_id
from service.queue.keys import undocumented
from service.queue.redis import RedisJobQueue

DAY_MS = 86_400_000


@pytest.fixture
async def queue(redis_url: str, redis_prefix: str) -> AsyncIterator[RedisJobQueue]:
    queue = RedisJobQueue(redis_url, prefix=redis_prefix)
    yield queue
    await queue.aclose()


@pytest.fixture
def files(queue: RedisJobQueue) -> Files:
    return Files(queue.client, queue.prefix)


def record(age_ms: int = 0) -> FileRecord:
    """A file that lives for a day."""
    created_at_ms = int(time.time() * 1000) - age_ms
    return FileRecord(
        id=new_file_id(created_at_ms),
        name="fox.png",
        content_type="image/png",
        file_bytes=3,
        sha256="0" * 64,
        metadata={"my": {"own": "tag"}},
        created_at_ms=created_at_ms,
        expires_at_ms=created_at_ms + DAY_MS,
    )


async def test_a_file_is_its_tenants_alone(files: Files) -> None:
    file = record()
    await files.add("acme", file)
    assert await files.get("acme", file.id) == file
    assert await files.get("other", file.id) is None
    assert not await files.remove("other", file.id)
    assert (await files.list("other", cursor=None, limit=9))[0] == []
    assert await files.remove("acme", file.id)
    assert (await files.list("acme", cursor=None, limit=9))[0] == []


async def test_files_come_newest_first_in_pages(files: Files) -> None:
    added = [record(age_ms=5 - index) for index in range(5)]
    for file in added:
        await files.add("acme", file)
    page, cursor = await files.list("acme", cursor=None, limit=3)
    rest, end = await files.list("acme", cursor=cursor, limit=3)
    assert (page + rest, end) == (added[::-1], None)
    with pytest.raises(InvalidRequest):
        await files.list("acme", cursor="x", limit=3)


async def test_both_keys_go_by_themselves_and_are_documented(
    files: Files, queue: RedisJobQueue
) -> None:
    await files.add("acme:x", record())
    keys = [key async for key in queue.client.scan_iter(f"{queue.prefix}*")]
    assert len(keys) == 2
    assert undocumented(keys, queue.prefix) == []
    assert all([0 < await queue.client.pttl(key) <= DAY_MS for key in keys])


async def test_the_list_forgets_files_whose_time_is_over(
    files: Files, queue: RedisJobQueue
) -> None:
    await files.add("acme", record(age_ms=2 * DAY_MS))
    new = record()
    await files.add("acme", new)
    assert await queue.client.zrange(f"{queue.prefix}files:acme", 0, -1) == [new.id]
