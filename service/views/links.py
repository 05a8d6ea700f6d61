"""Addresses that clients are given: absolute, and for images signed, so that they need no key.

A signed link carries the time of its end and an HMAC-SHA256 over path and end. The same job gives
the same links, so that entity tags hold and webhooks repeat themselves exactly. Pure.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from service.jobs import ImageRecord, Job

EXTENSIONS: Mapping[str, str] = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
LIFE_S = 7 * 86_400
"""A link of a job that has not ended lives so long after the job's creation."""


class LinkSigner:
    """Signs paths with one key, shared by all processes of a service."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, path: str, expires_s: int) -> str:
        """`path` with the query that `verify` asks for; `expires_s` is Unix time."""
        return f"{path}?expires={expires_s}&signature={self._signature(path, expires_s)}"

    def verify(self, path: str, expires_s: int, signature: str, *, now_s: float) -> bool:
        """Whether this service signed `path` and the link has not ended."""
        expected = self._signature(path, expires_s)
        return hmac.compare_digest(expected.encode(), signature.encode()) and now_s < expires_s

    def _signature(self, path: str, expires_s: int) -> str:
        return hmac.digest(self._key, f"{path}\n{expires_s}".encode(), "sha256").hex()


@dataclass(frozen=True, slots=True)
class Links:
    """Makes the addresses of one server.

    Attributes:
        base_url: scheme, host and prefix, without a slash at the end.
        signer: of the links that need no key.
    """

    base_url: str
    signer: LinkSigner

    def to(self, path: str) -> str:
        """The address of a path."""
        return self.base_url + path

    def signed(self, path: str, job: Job) -> str:
        """The address of a path of a job, for whoever has it."""
        return self.to(self.signer.sign(path, link_end_s(job)))

    def job(self, job_id: str) -> str:
        """Where a job is found."""
        return self.to(job_path(job_id))

    def events(self, job_id: str) -> str:
        """Where a job is followed."""
        return self.to(f"{job_path(job_id)}/events")

    def signed_events(self, job: Job) -> str:
        """Where a job is followed without a key, as a browser's EventSource has to."""
        return self.signed(events_path(job.id), job)

    def cancel(self, job_id: str) -> str:
        """Where a job is stopped."""
        return self.to(f"{job_path(job_id)}/cancel")

    def image(self, job: Job, image: ImageRecord) -> str:
        """Where a finished image is fetched without a key."""
        return self.signed(file_path(job.id, image), job)


def job_path(job_id: str) -> str:
    """Where a job is found on its server."""
    return f"/v1/jobs/{job_id}"


def events_path(job_id: str) -> str:
    """Where a job is followed, by whoever has a signed link to it."""
    return f"/v1/events/{job_id}"


def file_path(job_id: str, image: ImageRecord) -> str:
    """Where a finished image is, for whoever has a signed link to it."""
    return f"/v1/files/{job_id}/{image.index}.{EXTENSIONS[image.content_type]}"


def link_end_s(job: Job) -> int:
    """When signed links of a job end, Unix time, s: with the job."""
    ends_ms = job.expires_at_ms or job.created_at_ms + LIFE_S * 1000
    return -(-ends_ms // 1000)
