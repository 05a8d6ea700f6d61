"""What a job may be asked for, as keyword arguments: the fields of `POST /v1/jobs`.

A test holds them against the server's own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Required, TypedDict

PICTURE_FIELDS = ("image", "mask")

Picture = str | bytes | Path
"""A file's bytes or its path; or as text an upload's id, base64 or a data URL."""


class UpsampleFields(TypedDict, total=False):
    """Overrides of the second stage."""

    steps: int | str | None
    sampler: str | None
    temperature: float | None


class WebhookFields(TypedDict, total=False):
    """Whom to tell of the job, and of what."""

    url: Required[str]
    events: Sequence[str] | None


class JobFields(TypedDict, total=False):
    """All fields but the prompt; what is left out takes the server's default."""

    negative_prompt: str | None
    model: str | None
    width: int | None
    height: int | None
    n: int | None
    seed: int | None
    steps: int | str | None
    sampler: str | None
    guidance_scale: float | None
    guidance_interval: Sequence[float] | None
    eta: float | None
    thresholding: str | None
    dynamic_percentile: float | None
    upsample: UpsampleFields | None
    previews: int | None
    task: str | None
    image: Picture | None
    mask: Picture | None
    strength: float | None
    seed_to: int | None
    label: int | None
    clip_guidance_scale: float | None
    classifier_guidance_scale: float | None
    best_of: int | None
    output_format: str | None
    provenance: str | None
    priority: str | None
    timeout_seconds: float | None
    webhook: WebhookFields | None
    metadata: Mapping[str, str] | None


def files_of(fields: Mapping[str, Any]) -> dict[str, bytes]:
    """The pictures among the fields that are files, to be uploaded before the job.

    Raises:
        OSError: one can't be read.
    """
    given = {name: fields.get(name) for name in PICTURE_FIELDS}
    return {
        name: contents(value) for name, value in given.items() if isinstance(value, bytes | Path)
    }


def contents(file: bytes | Path) -> bytes:
    """The bytes of a file; raises OSError if it can't be read."""
    return file.read_bytes() if isinstance(file, Path) else file
