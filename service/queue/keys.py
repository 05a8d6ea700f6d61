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

HINTS = "hints"  # a pub/sub channel and not a key: the id of a job that something happened to


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
    Key("sequence", "string", True, "number of the last submitted job; orders a tenant's jobs"),
    Key("signing-key", "string", True, "secret of the signed links to images"),
    Key("alive", "string", True, "Redis time, ms, of the last sign that Redis can be reached"),
    Key("grace", "string", True, "Redis time, ms, until which no lease is taken away"),
    Key("leases", "zset", True, "running job → Redis time, ms, at which its lease is out"),
    Key("delayed", "zset", True, "queued job → Redis time, ms, before which it isn't offered"),
    Key("expiring", "zset", True, "`<tenant> <job>` of a final job → Redis time, ms, of its end"),
    Key("waiting", "hash", True, "number of queued jobs: `total`, and `tenant:<tenant>` for each"),
    Key("workers", "zset", True, "worker → Redis time, ms, of its last announcement"),
    Key("worker:<worker>", "string", False, "presence as JSON; goes when not announced again"),
    Key("held:<worker>", "set", False, "jobs a worker holds; goes with the last of them"),
    Key("claim:<worker>", "hash", False, "last lease call, for its replay; goes after two leases"),
    Key("ready:<model>:<tenant>", "zset", False, "queued job → its number; goes with the last"),
    Key("active:<model>", "zset", False, "tenant with ready jobs → virtual start of the next one"),
    Key("clock:<model>", "hash", False, "virtual time, and `end:<tenant>`; goes with `active`"),
    Key("wake:<model>", "list", False, "tokens that wake idle workers; goes after 2 s"),
    Key("job:<job>", "hash", False, "the job's record; goes with the retention once final"),
    Key("events:<job>", "stream", False, "all events but those in `updates`; goes with the job"),
    Key(
        "updates:<job>", "stream", False, "newest progress and previews; goes 5 min after the last"
    ),
    Key("jobs:<tenant>", "zset", False, "a tenant's jobs, by id; goes with the last of them"),
    Key("idempotency:<tenant>:<key>", "string", False, "`<fingerprint> <job>`; goes with the job"),
    Key(
        "uploads:<tenant>", "zset", False, "upload → Unix time, ms, of its end; goes with the last"
    ),
    Key("upload:<tenant>:<upload>", "string", False, "its record as JSON; goes at its end"),
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
