"""Everything the queue keeps, read at one moment, and whether it fits together."""

import json
from collections import Counter
from typing import Any

from redis import Redis

_SNAPSHOT = """
local all = {}
local readers = {string = 'GET', hash = 'HGETALL', set = 'SMEMBERS'}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local kind = redis.call('TYPE', key).ok
  local value = ''
  if readers[kind] then
    value = redis.call(readers[kind], key)
  elseif kind == 'zset' then
    value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  end
  all[string.sub(key, #ARGV[1] + 1)] = {kind, value}
end
return cjson.encode(all)
"""

Snapshot = dict[str, Any]


def snapshot(redis: Redis, prefix: str) -> Snapshot:
    """Every key without the prefix; a hash and a sorted set as a dict, a set as a set."""
    text: Any = redis.eval(_SNAPSHOT, 0, prefix)
    found = json.loads(text) or {}
    return {key: _value(kind, value) for key, (kind, value) in dict(found).items()}


def audit(redis: Redis, prefix: str) -> Snapshot:
    """Asserts that every index and counter says what the jobs' own records say."""
    kept = snapshot(redis, prefix)
    jobs = _family(kept, "job")
    _audit_counters(kept, jobs)
    _audit_places(kept, jobs)
    _audit_tenants(kept)
    assert set(kept.get("leases", ())) == _ids(jobs, "running")
    held = [job_id for ids in _family(kept, "held").values() for job_id in ids]
    assert sorted(held) == sorted(_ids(jobs, "running"))
    timed = {i for i in _ids(jobs, "queued", "running") if "deadline_at_ms" in jobs[i]}
    asked = {i for i in timed if "cancel_requested" in jobs[i]}
    assert timed - asked <= set(kept.get("deadlines", ())) <= timed
    return kept


def _audit_counters(kept: Snapshot, jobs: Snapshot) -> None:
    for counters, status in (("waiting", "queued"), ("running", "running")):
        counted: Counter[str] = Counter()
        for job_id in _ids(jobs, status):
            job = jobs[job_id]
            counted.update(total=1, work=int(job["work"]))
            counted.update({f"tenant:{job['tenant']}": 1, f"work:{job['model']}": int(job["work"])})
        assert kept.get(counters, {}) == {name: str(number) for name, number in counted.items()}


def _audit_places(kept: Snapshot, jobs: Snapshot) -> None:
    places = [i for ready in _family(kept, "ready").values() for i in ready]
    places += kept.get("delayed", ())
    assert sorted(places) == sorted(_ids(jobs, "queued"))
    for name, ready in _family(kept, "ready").items():
        for job_id, place in ready.items():
            job = jobs[job_id]
            assert name == f"{job['model']}:{job['tenant']}"
            assert place == float(job["place"])


def _audit_tenants(kept: Snapshot) -> None:
    """Whoever has ready jobs is active or parked, nobody else is; the clock is behind them all."""
    ready = sorted(_family(kept, "ready"))
    active, parked = _pairs(_family(kept, "active")), _pairs(_family(kept, "parked"))
    assert sorted([*active, *parked]) == ready
    capped = [f"{model}:{t}" for t, models in _family(kept, "capped").items() for model in models]
    assert sorted(parked) == sorted(capped)
    for tenant in _family(kept, "capped"):
        running = int(kept.get("running", {}).get(f"tenant:{tenant}", 0))
        assert running >= int(kept[f"tenant:{tenant}"]["concurrency"])
    models = {name.split(":")[0] for name in ready}
    clocks = _family(kept, "clock")
    assert set(clocks) | set(_family(kept, "ends")) <= models
    for name, time in {**active, **_pairs(_family(kept, "ends"))}.items():
        assert time >= float(clocks.get(name.split(":")[0], {"now": "0"})["now"])


def _pairs(by_model: Snapshot) -> dict[str, float]:
    return {
        f"{model}:{tenant}": start
        for model, starts in by_model.items()
        for tenant, start in starts.items()
    }


def _ids(jobs: Snapshot, *statuses: str) -> set[str]:
    return {job_id for job_id, job in jobs.items() if job["status"] in statuses}


def _family(kept: Snapshot, family: str) -> Snapshot:
    names = {key: key.removeprefix(f"{family}:") for key in kept if key.startswith(f"{family}:")}
    return {name: kept[key] for key, name in names.items()}


def _value(kind: str, value: Any) -> Any:
    match kind:
        case "hash":
            return dict(zip(value[::2], value[1::2], strict=True))
        case "zset":
            return {m: float(s) for m, s in zip(value[::2], value[1::2], strict=True)}
        case "set":
            return set(value)
    return value
