"""What a live worker says of itself. Pure."""

import json
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPresence:
    """One worker process.

    Attributes:
        id: unique to the process.
        models: pipelines it has loaded.
        device: such as `cpu` or `cuda:0`.
        max_batch: trajectories that can share one step.
        trajectories: trajectories it holds now.
        work_rate: work that it does in a second, in the unit of `Job.work`; None: not known yet.
        seen_ms: Redis time of the last announcement; set by the queue.
    """

    id: str
    models: tuple[str, ...]
    device: str = "cpu"
    max_batch: int = 1
    trajectories: int = 0
    work_rate: float | None = None
    seen_ms: int = 0


def presence_to_json(presence: WorkerPresence) -> str:
    """The presence as it is stored."""
    return json.dumps(asdict(presence))


def presence_from_json(text: str, seen_ms: int) -> WorkerPresence:
    """The inverse of `presence_to_json`; members that this release doesn't know are dropped."""
    names = {member.name for member in fields(WorkerPresence)}
    members = {name: value for name, value in json.loads(text).items() if name in names}
    members["models"] = tuple(members["models"])
    return WorkerPresence(**{**members, "seen_ms": seen_ms})
