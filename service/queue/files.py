"""What is known of the files that clients have uploaded; their bytes are in the image store.

A record lives for a while and belongs to one tenant. Knows no HTTP.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from redis.asyncio import Redis

from service.errors import InvalidRequest
from service.jobs import ulid
from service.queue.connection import redis_errors
from service.queue.keys import quoted

_PREFIX = "file_"
FILE_ID = re.compile(_PREFIX + "[0-9a-hjkmnp-tv-z]{26}", re.ASCII)

FileList = list["FileRecord"]


def new_file_id(now_ms: int) -> str:
    """`file_` and a ULID; ids sort by time."""
    return _PREFIX + ulid(now_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """One uploaded file.

    Attributes:
        id: `file_` and 26 characters that sort by time.
        name: the file's name, as the client has it.
        content_type: what the client says it is.
        file_bytes: its size.
        sha256: hex digest of its bytes, under which the store keeps them.
        metadata: the client's own, any JSON object.
        created_at_ms: Unix time.
        expires_at_ms: Unix time at which the record goes.
    """

    id: str
    name: str
    content_type: str
    file_bytes: int
    sha256: str
    metadata: Mapping[str, Any]
    created_at_ms: int
    expires_at_ms: int


class Files:
    """The records of one queue. Every method raises `Unavailable` while Redis can't be reached."""

    def __init__(self, client: "Redis", prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    async def add(self, tenant: str, file: FileRecord) -> None:
        """Keeps a record until its end."""
        index, life_ms = self._index(tenant), file.expires_at_ms - file.created_at_ms
        with redis_errors():
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.set(self._key(tenant, file.id), json.dumps(asdict(file)), px=life_ms)
                gone_ms = file.created_at_ms - life_ms
                pipeline.zremrangebylex(index, "-", f"({_PREFIX}{ulid(gone_ms)}")
                pipeline.zadd(index, {file.id: 0})
                pipeline.pexpire(index, life_ms)
                await pipeline.execute()

    async def get(self, tenant: str, file_id: str) -> FileRecord | None:
        """The tenant's file of that id, or None."""
        with redis_errors():
            text = await self._client.get(self._key(tenant, file_id))
        return None if text is None else _record(str(text))

    async def list(
        self, tenant: str, *, cursor: str | None, limit: int
    ) -> tuple[FileList, str | None]:
        """A tenant's files, newest first, and the cursor of the next page, None on the last one.

        Raises:
            InvalidRequest: `cursor` is no id of a file.
        """
        if cursor is not None and not FILE_ID.fullmatch(cursor):
            raise InvalidRequest("The cursor is not one of an earlier page")
        high = f"({cursor}" if cursor else "+"
        with redis_errors():
            found: Any = await self._client.zrevrangebylex(
                self._index(tenant), high, "-", start=0, num=limit + 1
            )
            ids = found[:limit]
            keys = [self._key(tenant, file_id) for file_id in ids]
            texts: Any = await self._client.mget(keys) if keys else []
        records = [_record(text) for text in texts if text is not None]
        return records, ids[-1] if len(found) > limit else None

    async def remove(self, tenant: str, file_id: str) -> bool:
        """Forgets a file; False where there is none."""
        with redis_errors():
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.delete(self._key(tenant, file_id))
                pipeline.zrem(self._index(tenant), file_id)
                deleted, _ = await pipeline.execute()
        return bool(deleted)

    def _key(self, tenant: str, file_id: str) -> str:
        return f"{self._prefix}file:{quoted(tenant)}:{quoted(file_id)}"

    def _index(self, tenant: str) -> str:
        return f"{self._prefix}files:{quoted(tenant)}"


def _record(text: str) -> FileRecord:
    names = {member.name for member in fields(FileRecord)}
    return FileRecord(**{name: value for name, value in json.loads(text).items() if name in names})
