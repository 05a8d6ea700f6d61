"""Deliveries: what the outbox holds of each event on its way to a client's server. Pure.

Reads what the `webhook_*` transitions return; knows neither Redis nor HTTP. Members of an attempt
that this release doesn't know are dropped, so that two releases can share a queue.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from urllib.parse import unquote

from service.jobs import Job
from service.queue.codec import job_from_hash, paired
from service.views.delivery import DeliveryState

_DELIVERY_ID = re.compile(r"msg_[0-9a-z]{26}_\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a delivery.

    Attributes:
        at_ms: Unix time of its start, by the sender's clock.
        duration_ms: until the answer, or the failure.
        status: of the answer; None when there was none.
        error: why it did not succeed.
        response: the start of an answer that was no success.
    """

    at_ms: int
    duration_ms: int
    status: int | None = None
    error: str | None = None
    response: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery that a sender may attempt once.

    Attributes:
        id: stays the same over all attempts.
        token: proves the claim.
        job_id: whose event it is.
        tenant: whose job that is.
        lane: its tenant and host, as the queue counts them.
        url: where it goes.
        event: one of `WEBHOOK_EVENTS`.
        dialect: whose words the body speaks.
        created_at_ms: Unix time of the event.
        tries: attempts since it was put into the outbox, or asked for again.
        body: as the first attempt sent it.
        job: the job as it was then; None once there is a body.
    """

    id: str
    token: str = field(repr=False)
    job_id: str
    tenant: str
    lane: str
    url: str
    event: str
    dialect: str
    created_at_ms: int
    tries: int
    body: str | None
    job: Job | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A delivery as its log shows it."""

    id: str
    event: str
    url: str
    state: DeliveryState
    tenant: str
    created_at_ms: int
    attempts: tuple[Attempt, ...]
    next_attempt_at_ms: int | None


def is_delivery_id(text: str) -> bool:
    """Whether `text` has the form of a delivery's id; keeps foreign characters out of keys."""
    return _DELIVERY_ID.fullmatch(text) is not None


def attempt_to_json(attempt: Attempt) -> str:
    """One attempt as it is stored."""
    return json.dumps(asdict(attempt))


def claim_from_answer(token: str, answer: Sequence[Any]) -> Claim:
    """A claim out of what `webhook_claim` returns."""
    delivery_id, record, told = answer[0], paired(answer[1]), paired(answer[2])
    return Claim(
        id=delivery_id,
        token=token,
        job_id=record["job"],
        tenant=unquote(record["tenant"]),
        lane=record["lane"],
        url=record["url"],
        event=record["event"],
        dialect=record["dialect"],
        created_at_ms=int(record["created_at_ms"]),
        tries=int(record["tries"]),
        body=record.get("body"),
        job=job_from_hash(record["job"], told) if told else None,
    )


def delivery_from_answer(answer: Sequence[Any]) -> Delivery:
    """A delivery out of what `webhook_log` returns."""
    delivery_id, record, due = answer[0], paired(answer[1]), answer[2]
    return Delivery(
        id=delivery_id,
        event=record["event"],
        url=record["url"],
        state=_state(record["state"]),
        tenant=unquote(record["tenant"]),
        created_at_ms=int(record["created_at_ms"]),
        attempts=_attempts(record),
        next_attempt_at_ms=None if due is None else int(float(due)),
    )


def _attempts(record: Mapping[str, str]) -> tuple[Attempt, ...]:
    numbers = range(1, int(record["attempts"]) + 1)
    return tuple(_attempt(json.loads(record[f"attempt:{number}"])) for number in numbers)


def _attempt(members: Mapping[str, Any]) -> Attempt:
    known = {member.name for member in fields(Attempt)}
    return Attempt(**{name: value for name, value in members.items() if name in known})


def _state(text: str) -> DeliveryState:
    match text:
        case "pending" | "delivered" | "failed" | "disabled":
            return text
    raise ValueError(f"no state of a delivery: {text!r}")
