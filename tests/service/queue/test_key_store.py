import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis

from service.api_keys import ApiKey, digest_of, new_key_id, new_key_text
from service.errors import Conflict, NotFound, Unavailable
from service.queue.embedded import ADDRESS_FILE, EmbeddedRedis, address_of, running_redis
from service.queue.key_store import PATIENCE_S, KeyStore
from service.queue.key_table import KeyTable
from service.queue.keys import undocumented
from service.queue.redis import RedisJobQueue


def fresh() -> tuple[str, ApiKey]:
    text = new_key_text()
    key = ApiKey(id=new_key_id(), tenant="acme", digest=digest_of(text), created_at_ms=1)
    return text, key


@pytest.fixture
def store(redis_url: str, redis_prefix: str) -> Iterator[KeyStore]:
    with KeyStore(redis_url, prefix=redis_prefix) as store:
        yield store


@pytest.fixture
async def table(redis_url: str, redis_prefix: str) -> AsyncIterator[KeyTable]:
    queue = RedisJobQueue(redis_url, prefix=redis_prefix)
    table = KeyTable(queue.client, queue.prefix, queue.hub)
    yield table
    await table.aclose()
    await queue.aclose()


async def test_a_change_has_been_heard_when_it_returns(store: KeyStore, table: KeyTable) -> None:
    text, key = fresh()
    assert (await table.ring()).is_empty
    await asyncio.to_thread(store.create, key)
    assert (await table.ring()).find(text, 0) == key
    other = new_key_text()
    await asyncio.to_thread(store.rotate, key.id, digest_of(other))
    ring = await table.ring()
    assert ring.find(text, 0) is None
    assert ring.find(other, 0) is not None
    await asyncio.to_thread(store.revoke, key.id)
    assert (await table.ring()).find(other, 0) is None


async def test_a_lost_hint_is_made_up_for(
    store: KeyStore, table: KeyTable, redis_url: str, redis_prefix: str
) -> None:
    _, key = fresh()
    await table.ring()
    with Redis.from_url(redis_url, decode_responses=True) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "PUBSUB")
    await asyncio.to_thread(store.create, key)
    assert not (await table.ring()).is_empty


async def test_keys_are_known_while_redis_is_away(tmp_path: Path) -> None:
    text, key = fresh()
    with EmbeddedRedis(tmp_path) as server:
        queue = RedisJobQueue(server.url)
        table = KeyTable(queue.client, queue.prefix, queue.hub)
        with KeyStore(server.url) as store:
            store.create(key)
        assert (await table.ring()).find(text, 0) == key
    with pytest.raises(Unavailable):
        await table.refresh()
    assert (await table.ring()).find(text, 0) == key
    late = KeyTable(queue.client, queue.prefix, queue.hub)
    with pytest.raises(Unavailable):
        await late.ring()
    for each in (table, late, queue):
        await each.aclose()


async def test_a_dead_process_holds_nobody_up_for_long(
    store: KeyStore, redis_url: str, redis_prefix: str
) -> None:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        now_ms = int(time.time() * 1000)
        client.hset(f"{redis_prefix}api-keys-readers", "dead", f"0 {now_ms - 5_000}")
        client.hset(f"{redis_prefix}api-keys-readers", "long dead", f"0 {now_ms - 100_000}")
        started_s = time.monotonic()
        store.create(fresh()[1])
        assert time.monotonic() - started_s < PATIENCE_S
        assert client.hkeys(f"{redis_prefix}api-keys-readers") == ["dead"]


def test_changes_at_the_same_time_all_count(
    store: KeyStore, redis_url: str, redis_prefix: str
) -> None:
    keys = [fresh()[1] for _ in range(12)]

    def change(key: ApiKey) -> None:
        with KeyStore(redis_url, prefix=redis_prefix) as own:
            own.create(key)
            own.revoke(key.id)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(change, keys))
    assert {key.id for key in store.list()} == {key.id for key in keys}
    assert all(key.revoked_at_ms for key in store.list())


def test_only_hashes_are_kept_under_documented_keys(
    store: KeyStore, redis_url: str, redis_prefix: str
) -> None:
    text, key = fresh()
    store.create(key)
    with Redis.from_url(redis_url, decode_responses=True) as client:
        names = list(client.scan_iter(f"{redis_prefix}*"))
        assert undocumented(names, redis_prefix) == []
        kept = str([client.hgetall(name) for name in names if client.type(name) == "hash"])
    assert text not in kept
    assert digest_of(text) in kept


def test_what_is_not_there_or_void_is_said(store: KeyStore) -> None:
    with pytest.raises(NotFound, match="key_none"):
        store.revoke("key_none")
    _, key = fresh()
    store.create(key)
    first = store.revoke(key.id)
    assert store.revoke(key.id) == first
    with pytest.raises(Conflict, match=key.id):
        store.rotate(key.id, "0" * 64)


def test_a_running_server_is_found_by_its_folder(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server, running_redis(None, tmp_path) as url:
        assert url == server.url == address_of(tmp_path)
    assert address_of(tmp_path) is None
    assert not (tmp_path / ADDRESS_FILE).exists()


def test_the_address_of_a_dead_server_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / ADDRESS_FILE).write_text("unix:///nowhere/redis.sock")
    assert address_of(tmp_path) is None
    with running_redis(None, tmp_path) as url, Redis.from_url(url) as client:
        assert client.ping()
