"""Job and events ↔ what Redis keeps of them. Pure.

A job's hash holds `spec`, JSON of all that never changes, beside one field for each thing that
does; images are `image:<index>`. Members that this release doesn't know are dropped, so that two
releases can share a queue.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, lru_cache
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from model.params import SamplerName, SamplingParams, Task, Thresholding, UpsampleParams
from service.events import Event, event_from_record, event_to_record
from service.jobs import (
    ImageRecord,
    Job,
    JobFailure,
    JobStatus,
    Priority,
    Provenance,
    WebhookTarget,
)
from service.queue.keys import quoted

T = TypeVar("T")
_SPECS_KEPT = 1024  # of about 3 kB each


def job_to_fields(job: Job) -> dict[str, str]:
    """The fields of a job that is about to be submitted."""
    spec = {
        "params": _members(job.params) | {"upsample": _members(job.params.upsample)},
        "output_format": job.output_format,
        "warnings": job.warnings,
        "unknown_words": job.unknown_words,
        "metadata": None if job.metadata is None else dict(job.metadata),
        "priority": job.priority,
        "timeout_s": job.timeout_s,
        "webhook": job.webhook and asdict(job.webhook),
        "provenance": job.provenance,
        "api": job.api,
        "base_url": job.base_url,
        "echo": None if job.echo is None else dict(job.echo),
    }
    return {
        "spec": json.dumps(spec),
        "tenant": quoted(job.tenant),
        "model": quoted(job.params.model),
        "slots": str(job.params.drawn),
        "step": "0",
        "total_steps": str(job.total_steps),
        "work": str(job.work),
        **(_webhook_fields(job.webhook) if job.webhook else {}),
        "attempt": "0",
        "strikes": "0",
    }


def job_from_hash(job_id: str, record: Mapping[str, str]) -> Job:
    """The job of a whole hash."""
    status = JobStatus(record["status"])
    failure = record.get("failure")
    return Job(
        **_spec(record["spec"]),
        id=job_id,
        status=status,
        tenant=unquote(record["tenant"]),
        created_at_ms=int(record["created_at_ms"]),
        started_at_ms=_optional_int(record.get("started_at_ms")),
        finished_at_ms=_optional_int(record.get("finished_at_ms")),
        expires_at_ms=_optional_int(record.get("expires_at_ms")),
        attempt=int(record["attempt"]),
        step=int(record["step"]),
        total_steps=int(record["total_steps"]),
        work=int(record.get("work", 1)),
        deadline_at_ms=_optional_int(record.get("deadline_at_ms")),
        images=_images(record),
        failure=None if failure is None else _known(JobFailure, json.loads(failure)),
        cancel_reason=record.get("cancel_reason") if status is JobStatus.CANCELED else None,
        cancel_requested="cancel_requested" in record,
    )


@lru_cache(maxsize=_SPECS_KEPT)
def _spec(text: str) -> Mapping[str, Any]:
    """The members of a job that never change; whoever polls a job asks for the same ones."""
    spec = json.loads(text)
    return {
        "params": _params(spec["params"]),
        "output_format": spec["output_format"],
        "priority": Priority(spec.get("priority", Priority.NORMAL)),
        "timeout_s": spec.get("timeout_s"),
        "webhook": _webhook(spec.get("webhook")),
        "provenance": Provenance(spec.get("provenance", Provenance.FULL)),
        "api": spec.get("api", "native"),
        "base_url": spec.get("base_url", ""),
        "echo": spec.get("echo"),
        "warnings": tuple(spec["warnings"]),
        "unknown_words": tuple(spec["unknown_words"]),
        "metadata": spec["metadata"],
    }


def paired(flat: Sequence[str]) -> dict[str, str]:
    """A hash out of field, value, field, value, …, as a script returns it."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def fingerprint(job: Job) -> str:
    """Digest of what the client asked for: equal for equal requests."""
    asked = [
        asdict(job.params),
        job.output_format,
        dict(job.metadata or {}),
        job.priority,
        job.timeout_s,
        job.webhook and asdict(job.webhook),
        job.provenance,
    ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def image_to_json(image: ImageRecord) -> str:
    """One image record as it is stored; equal records give equal text."""
    return json.dumps(asdict(image), sort_keys=True)


def event_to_json(event: Event) -> str:
    """One event as it is stored."""
    return json.dumps(event_to_record(event))


def event_from_json(text: str) -> Event | None:
    """The inverse of `event_to_json`; None for an event type that this release doesn't know."""
    try:
        return event_from_record(json.loads(text))
    except KeyError:
        return None


def _params(record: Mapping[str, Any]) -> SamplingParams:
    members = dict(record)
    upsample = dict(members["upsample"])
    upsample["sampler"] = upsample["sampler"] and SamplerName(upsample["sampler"])
    members["upsample"] = _known(UpsampleParams, upsample)
    members["sampler"] = SamplerName(members["sampler"])
    members["thresholding"] = Thresholding(members["thresholding"])
    members["task"] = Task(members.get("task", Task.GENERATE))
    members["guidance_interval"] = tuple(members["guidance_interval"])
    return _known(SamplingParams, members)


def _members(params: SamplingParams | UpsampleParams) -> dict[str, Any]:
    """As `asdict`, which copies every value and takes five times as long."""
    return {name: getattr(params, name) for name in params.__slots__}


def _webhook_fields(target: WebhookTarget) -> dict[str, str]:
    return {
        "webhook_events": " ".join(target.events),
        "webhook_url": target.url,
        "webhook_host": quoted(urlsplit(target.url).netloc.lower()),
        "webhook_dialect": target.dialect,
    }


def _webhook(record: Mapping[str, Any] | None) -> WebhookTarget | None:
    if record is None:
        return None
    return _known(WebhookTarget, {**record, "events": tuple(record["events"])})


def _images(record: Mapping[str, str]) -> tuple[ImageRecord, ...]:
    texts = [text for field, text in record.items() if field.startswith("image:")]
    images = [_known(ImageRecord, json.loads(text)) for text in texts]
    return tuple(sorted(images, key=lambda image: image.index))


def _known(kind: Callable[..., T], members: Mapping[str, Any]) -> T:
    names = _names(kind)
    return kind(**{name: value for name, value in members.items() if name in names})


@cache
def _names(kind: Callable[..., object]) -> frozenset[str]:
    return frozenset(inspect.signature(kind).parameters)


def _optional_int(text: str | None) -> int | None:
    return None if text is None else int(text)
