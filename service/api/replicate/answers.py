"""What the routes below `/replicate/` answer with, as the description of the API has it."""

import json
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from service.queue.files import FileRecord
from service.views.links import Links
from service.views.prediction import time_text


class PredictionUrls(BaseModel):
    """Where to go on."""

    get: str
    cancel: str
    stream: str = Field(description="signed: whoever has it needs no key")
    web: str


class Prediction(BaseModel):
    """A job, as `service.views.prediction` writes it."""

    id: str
    model: str = Field(description="owner/name")
    version: str
    input: dict[str, Any]
    logs: str = Field(description="warnings, and a progress bar as tqdm writes it")
    output: list[str] | None = Field(description="signed URLs: whoever has one needs no key")
    data_removed: bool
    error: str | None
    source: Literal["api"]
    status: Literal["starting", "processing", "succeeded", "failed", "canceled"]
    created_at: str
    started_at: str | None
    completed_at: str | None
    deadline: str | None
    deployment: str | None
    metrics: dict[str, float]
    urls: PredictionUrls


class PredictionPage(BaseModel):
    """Predictions, newest first."""

    previous: str | None
    next: str | None = Field(description="URL of the next page")
    results: list[Prediction]


class ReplicateVersion(BaseModel):
    """A model's weights and what they take."""

    id: str
    created_at: str
    cog_version: str
    openapi_schema: dict[str, Any]


class ReplicateVersionPage(BaseModel):
    """The one version of a model."""

    previous: None
    next: None
    results: list[ReplicateVersion]


class ReplicateModel(BaseModel):
    """A pipeline under one of its names."""

    url: str
    owner: str
    name: str
    description: str
    visibility: Literal["public"]
    github_url: None
    paper_url: None
    license_url: None
    run_count: int
    cover_image_url: None
    default_example: None
    latest_version: ReplicateVersion


class ReplicateModelPage(BaseModel):
    """All models."""

    previous: None
    next: None
    results: list[ReplicateModel]


class ReplicateFileUrls(BaseModel):
    """Where a file is."""

    get: str = Field(description="stands for the file in the input of a prediction")


class ReplicateFile(BaseModel):
    """An uploaded file."""

    id: str
    name: str
    content_type: str
    size: int
    etag: str
    checksums: dict[str, str]
    metadata: dict[str, Any]
    created_at: str
    expires_at: str
    urls: ReplicateFileUrls


class ReplicateFilePage(BaseModel):
    """Files, newest first."""

    previous: None
    next: str | None
    results: list[ReplicateFile]


class ReplicateAccount(BaseModel):
    """Who asks."""

    type: Literal["organization"]
    username: str
    name: str
    github_url: None


class ReplicateHardware(BaseModel):
    """A kind of device that a live worker has."""

    sku: str
    name: str


class SigningSecret(BaseModel):
    """What verifies webhooks."""

    key: str


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A body as JSON, in ASCII: what a client sent comes back, whatever characters it has."""
    return Response(json.dumps(body), status, headers, media_type="application/json")


def file_answer(file: FileRecord, links: Links) -> dict[str, Any]:
    """An uploaded file as a client sees it."""
    return {
        "id": file.id,
        "name": file.name,
        "content_type": file.content_type,
        "size": file.file_bytes,
        "etag": file.sha256,
        "checksums": {"sha256": file.sha256},
        "metadata": dict(file.metadata),
        "created_at": time_text(file.created_at_ms),
        "expires_at": time_text(file.expires_at_ms),
        "urls": {"get": links.to(f"/replicate/v1/files/{file.id}")},
    }
