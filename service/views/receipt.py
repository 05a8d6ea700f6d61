"""What a picture says of its making, and whether that is so, as a client sees it."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from service.jobs import JobStatus


class DrawnByView(BaseModel):
    """The program and the machine that drew an image; they decide how its numbers were rounded."""

    service_version: str | None
    torch_version: str | None
    dtype: str | None
    device: str | None
    device_name: str | None


class RerunView(BaseModel):
    """The same request, made again, and what came of it."""

    job_id: str | None = Field(description="null where it was drawn without a server")
    status: JobStatus
    same_pixels: bool | None = Field(description="null until the re-run is finished")
    max_difference: int | None = Field(description="0 … 255, the largest of all colour values")
    different_pixels: int | None = Field(description="how many pixels differ at all")
    drawn_by: DrawnByView | None = Field(description="what drew the re-run")
    note: str = Field(description="the verdict in a sentence")
    link: str | None = Field(description="where the re-run's job is found")


class ReceiptView(BaseModel):
    """What a picture says of its making."""

    object: Literal["receipt"] = "receipt"
    found: bool = Field(description="whether it says how it was made")
    source: Literal["glide", "a1111"] | None = Field(
        description="its record of this service, or the text that other programs write"
    )
    format: str
    width: int
    height: int
    digital_source_type: str | None = Field(description="IPTC's, as the file has it")
    model: str | None
    model_sha256: str | None = Field(description="fingerprint of the model that drew it")
    model_available: bool | None = Field(
        description="whether this server has exactly that model; null: the file doesn't say"
    )
    job_id: str | None
    index: int | None = Field(description="its number in its job")
    seed: int | None = Field(description="what it was drawn from")
    parameters: dict[str, Any] | None = Field(
        description="the request that made it, as a body for `POST /v1/jobs`"
    )
    drawn_by: DrawnByView | None
    pixels_sha256: str | None = Field(description="of the RGB bytes as they were drawn")
    pixels_match: bool | None = Field(
        description="whether they are the file's; null: this format can't tell, or the file doesn't"
    )
    pixels_note: str | None = Field(description="why `pixels_match` is null")
    problems: list[str] = Field(description="what was wrong with what the file says")
    rerun: RerunView | None = None
