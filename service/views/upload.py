"""What a picture that jobs may start from looks like to a client."""

from typing import Literal

from pydantic import BaseModel, Field


class UploadView(BaseModel):
    """A picture that a job may start from."""

    id: str = Field(description="SHA-256 of its bytes, for `image` and `mask` of a job")
    object: Literal["upload"] = "upload"
    width: int = Field(description="px, as it is seen: turned as its EXIF says")
    height: int
    bytes: int
