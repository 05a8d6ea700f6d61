"""The pictures of a request: found, unpacked and checked before the job is accepted.

A request names one by the id of an upload, or brings it: as a file, as base64, or in a data URL.
Knows no HTTP; unpacking takes time and memory, so call it from a thread.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from model.errors import ConditioningError
from model.imaging import Pictures, read_mask, read_picture
from model.params import SamplingParams, Task
from service.api.schemas import JobCreate
from service.errors import FieldError, InputLost, InvalidRequest
from service.store.inputs import digest_of, is_digest

PICTURE_FIELDS = ("image", "mask")
_LONGEST_ID = 80  # characters; what is longer brings the picture itself


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """The encoded pictures of a request."""

    image: bytes | None = None
    mask: bytes | None = None

    @property
    def image_digest(self) -> str | None:
        """SHA-256 of the image."""
        return None if self.image is None else digest_of(self.image)

    @property
    def mask_digest(self) -> str | None:
        """SHA-256 of the mask."""
        return None if self.mask is None else digest_of(self.mask)

    @property
    def pictures(self) -> Pictures | None:
        """As a pipeline takes them."""
        return None if self.image is None else Pictures(self.image, self.mask)


NO_INPUTS = Inputs()


def uploads_named(body: JobCreate) -> list[str]:
    """The digests of the uploads that a request names."""
    texts = [getattr(body, name) for name in PICTURE_FIELDS]
    return [digest for digest in map(_upload_id, filter(None, texts)) if digest]


def find_inputs(
    body: JobCreate,
    files: Mapping[str, bytes],
    *,
    fetch: Callable[[str], bytes],
    max_bytes: int,
) -> Inputs:
    """The pictures that a request names or brings.

    Args:
        body: the request.
        files: pictures that came beside it, by field.
        fetch: gives the upload of an id; may raise `InputLost`.
        max_bytes: largest picture.

    Raises:
        InvalidRequest: one can't be found or is too large; names every such field.
        Unavailable: the store can't be reached.
    """
    found: dict[str, bytes] = dict(files)
    wrong = []
    for name in PICTURE_FIELDS:
        text = getattr(body, name)
        try:
            if text is not None:
                found[name] = _named(text, fetch)
            if len(found.get(name, b"")) > max_bytes:
                raise _Unusable(f"has more than {max_bytes} bytes")
        except (_Unusable, InputLost) as error:
            wrong.append(FieldError(f"/{name}", str(error)))
    if wrong:
        raise InvalidRequest.of(wrong)
    return Inputs(**found)


def picture_violations(inputs: Inputs, params: SamplingParams) -> list[FieldError]:
    """What is wrong with the pictures themselves: unreadable, or a mask that doesn't fit."""
    if inputs.image is None:
        return []
    try:
        picture = read_picture(inputs.image)
    except ConditioningError as error:
        return [_field_error("/image", error)]
    try:
        if params.task is Task.INPAINT:
            read_mask(inputs.mask, picture)
    except ConditioningError as error:
        return [_field_error("/mask", error)]
    return []


class _Unusable(Exception):
    """A picture that can't be had from what the request says."""


def _upload_id(text: str) -> str | None:
    if len(text) > _LONGEST_ID:
        return None
    digest = text.removeprefix("sha256:").lower()
    return digest if is_digest(digest) else None


def _named(text: str, fetch: Callable[[str], bytes]) -> bytes:
    digest = _upload_id(text)
    if digest is not None:
        return fetch(digest)
    head, comma, payload = text.partition(",")
    if not comma:
        payload = text
    elif not (head.startswith("data:") and head.endswith(";base64")):
        raise _Unusable("a data URL must be of the form data:image/png;base64,…")
    try:
        return base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError):
        raise _Unusable("is neither the id of an upload, nor base64, nor a data URL") from None


def _field_error(pointer: str, error: ConditioningError) -> FieldError:
    return FieldError(pointer, str(error).rstrip("."))
