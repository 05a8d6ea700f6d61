"""Every Redis key of the queue, its type and its lifetime; `lua/` builds its keys by this list.

All keys share one prefix with a hash tag, so that a cluster keeps them in one slot and a script may
touch them all. `fixed` keys may exist as long as the queue does; every other key goes with what it
describes. Knows no Redis client.

Names of models, tenants and idempotency keys enter a key percent-quoted (`quoted`), so that no
foreign character can make one key look like another.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

KeyType = Literal["string", "hash", "list", "set", "zset", "stream"]

HINTS = "hints"
"""A pub/sub channel and not a key: the id of a job that something happened to, or `api-keys`."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key, or one family of keys.

    Attributes:
        name: what follows the prefix; `<…>` stands for a quoted name or a job id.
        type: Redis type.
        fixed: may outlive every job.
        meaning: what it holds, and when it goes.
    """

    name: str
    type: KeyType
    fixed: bool
    meaning: str


KEYS = (
    Key("epoch", "string", True, "first half of the last fencing token"),
    Key("place", "string", True, "last place given: Redis time, ms, × 1024, plus a number"),
    Key("signing-key", "string", True, "secret of the signed links to images"),
    Key("api-keys", "hash", True, "API key's id → its record as JSON, without its text"),
    Key("api-keys-version", "string", True, "number of changes of `api-keys`"),
    Key("api-keys-readers", "hash", True, "process → version it has read, and when, Unix ms"),
    Key("alive", "string", True, "Redis time, ms, of the last sign that Redis can be reached"),
    Key("grace", "string", True, "Redis time, ms, until which no lease is taken away"),
    Key("leases", "zset", True, "running job → Redis time, ms, at which its lease is out"),
    Key("delayed", "zset", True, "queued job → Redis time, ms, before which it isn't offered"),
    Key("deadlines", "zset", True, "unfinished job → Redis time, ms, by which it must have ended"),
    Key("expiring", "zset", True, "`<tenant> <job>` of a final job → Redis time, ms, of its end"),
    Key("waiting", "hash", True, "queued jobs: `total`, `tenant:<tenant>`; `work`, `work:<model>`"),
    Key("running", "hash", True, "the same of leased jobs"),
    Key("workers", "zset", True, "worker → Redis time, ms, of its last announcement"),
    Key("worker:<worker>", "string", False, "presence as JSON; goes when not announced again"),
    Key("held:<worker>", "set", False, "jobs a worker holds; goes with the last of them"),
    Key("claim:<worker>", "hash", False, "last lease call, for its replay; goes after two leases"),
    Key("tenant:<tenant>", "hash", True, "a tenant's limits, where they are not the default"),
    Key("ready:<model>:<tenant>", "zset", False, "queued job → its place; goes with the last"),
    Key("active:<model>", "zset", False, "tenant with ready jobs → virtual start of the next one"),
    Key("parked:<model>", "zset", False, "the same of tenants at their cap, which must wait"),
    Key("capped:<tenant>", "set", False, "models that the tenant is parked in"),
    Key("clock:<model>", "hash", False, "virtual time, `now`; goes with `active` and `parked`"),
    Key("ends:<model>", "zset", False, "tenant without ready jobs → its virtual end; as `clock`"),
    Key("wake:<model>", "list", False, "tokens that wake idle workers; goes after 2 s"),
    Key("job:<job>", "hash", False, "the job's record; goes with the retention once final"),
    Key("events:<job>", "stream", False, "all events but those in `updates`; goes with the job"),
    Key(
        "updates:<job>", "stream", False, "newest progress and previews; goes 5 min after the last"
    ),
    Key("jobs:<tenant>", "zset", False, "a tenant's jobs, by id; goes with the last of them"),
    Key("rate:<limit>", "list", False, "when a key created jobs, Unix s; goes with its window"),
    Key("upload:<tenant>:<digest>", "string", False, "who sent a picture; goes when long unused"),
    Key("idempotency:<tenant>:<key>", "string", False, "`<fingerprint> <job>`; goes with the job"),
    Key("deleted:<job>", "hash", False, "the record, for a repeated call; goes after 1 min"),
    Key("quota:<key>:<window>", "string", False, "images of an API key; goes with the window"),
    Key("files:<tenant>", "zset", False, "uploaded files, by id; goes with the last of them"),
    Key("file:<tenant>:<file>", "string", False, "an uploaded file's record; goes at its end"),
    Key("webhooks", "zset", True, "`<tenant>:<host>` → Redis time, ms, of the next attempt there"),
    Key("webhooks:<tenant>:<host>", "zset", False, "delivery → ms of its next attempt"),
    Key("throttled:<tenant>:<host>", "string", False, "ms until which the host asked for a pause"),
    Key("gone:<tenant>:<url>", "string", False, "by SHA-1: a URL that wants no more; 30 days"),
    Key("delivery:<delivery>", "hash", False, "one webhook; goes 3 days after its last attempt"),
    Key("told:<delivery>", "hash", False, "the job as it was then; goes with the first attempt"),
    Key("deliveries:<job>", "list", False, "a job's deliveries, oldest first; goes after them"),
    Key("webhook-secrets:<tenant>", "hash", True, "what signs the tenant's deliveries"),
)


def quoted(name: str) -> str:
    """`name` without any character that has a meaning in a key."""
    return quote(name, safe="")


def undocumented(keys: Iterable[str], prefix: str, *, fixed_only: bool = False) -> list[str]:
    """Those of `keys` that `KEYS` does not list; with `fixed_only`, only fixed keys count."""
    known = [
        re.compile(re.escape(prefix) + re.sub(r"<\w+>", "[^:]+", key.name))
        for key in KEYS
        if key.fixed or not fixed_only
    ]
    return [key for key in keys if not any(pattern.fullmatch(key) for pattern in known)]
