"""From OpenAI's words to a job: what is asked for, and in which form the images are to come.

Knows neither the queue nor the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from model.catalog import PipelineSpec
from model.errors import ConditioningError
from model.imaging import read_picture
from model.params import Task
from service.api.bodies import Submission
from service.api.model_names import find_model
from service.api.problems import invalid_request
from service.api.routes.openai.schemas import EXTENSIONS, ImageCreate, Quality
from service.api.scaling import LONGEST_SIDE, Size, is_scalable, parse_size
from service.api.schemas import JobCreate
from service.api.services import Services
from service.api.synonyms import SYNONYMS, Translated, translate
from service.errors import FieldError, InvalidRequest

_QUALITIES: Mapping[str | None, Quality] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}


Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a client wants its images.

    Attributes:
        size: px, whatever the pipeline makes.
        by_url: as addresses, not as base64.
        stream: as events, with so many partial images as the job has previews.
        quality: as it was asked for; has no effect.
        safety_identifier: of the client's own user.
    """

    size: Size
    by_url: bool
    stream: bool
    quality: Quality
    safety_identifier: str | None

    @property
    def size_text(self) -> str:
        """Such as `256x256`."""
        return "{}x{}".format(*self.size)


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """A request, understood.

    Attributes:
        submission: the job.
        delivery: how its images are to come.
        words: the client's own words for its fields.
        sent_as: further ones, for refusals.
    """

    submission: Submission
    delivery: Delivery
    words: Translated
    sent_as: Mapping[str, str] = field(default_factory=dict)


def order_of(
    kind: type[ImageCreate],
    members: Mapping[str, Any],
    files: Mapping[str, bytes],
    services: Services,
) -> Order:
    """Understands a request.

    Args:
        kind: the fields that its route has.
        members: its JSON, or the fields of its form.
        files: its pictures, by field.
        services: of the process.

    Raises:
        InvalidRequest: fields are wrong, or the pipeline doesn't make such a size.
        ModelNotFound: there is no such model.
    """
    known = {*kind.model_fields, *EXTENSIONS, *SYNONYMS}
    unknown = [name for name in members if name not in known]
    if unknown:
        raise InvalidRequest.of(
            FieldError(f"/{name}", "there is no such field", "unknown_parameter")
            for name in unknown
        )
    asked = _checked(kind, {name: members[name] for name in members if name in kind.model_fields})
    words = translate({n: value for n, value in members.items() if n not in kind.model_fields})
    spec = find_model(asked.model, services)
    made, delivered = _sizes(asked.size, spec, resize=services.settings.openai.resize)
    job = {
        **words.members,
        "prompt": asked.prompt or "",
        "model": spec.name,
        "n": asked.n,
        "output_format": asked.output_format,
        "width": made,
        "previews": asked.partial_images if asked.stream else None,
        **_task(words, files),
    }
    with words.refusing():
        submission = Submission(_checked(JobCreate, job), files, members)
    return Order(submission, _delivery(asked, delivered), words, _sent_as(files))


def _delivery(asked: ImageCreate, size: Size) -> Delivery:
    return Delivery(
        size=size,
        by_url=asked.response_format == "url",
        stream=bool(asked.stream),
        quality=_QUALITIES.get(asked.quality, "high"),
        safety_identifier=asked.safety_identifier or asked.user or None,
    )


def _sizes(text: str | None, spec: PipelineSpec, *, resize: bool) -> tuple[int, Size]:
    """The side that the pipeline makes, and the size that the client gets, px."""
    if text in (None, "", "auto"):
        return spec.sizes[-1], (spec.sizes[-1], spec.sizes[-1])
    size = parse_size(text)
    if size is not None and size[0] == size[1] and size[0] in spec.sizes:
        return size[0], size
    if size is None or not resize:
        known = ", ".join(f"{side}x{side}" for side in spec.sizes)
        raise _wrong_size(f"{spec.name} makes {known}, or auto, which is the last")
    if not is_scalable(size):
        raise _wrong_size(f"no side may be longer than {LONGEST_SIDE}")
    enough = (side for side in spec.sizes if side >= max(size))
    return next(enough, spec.sizes[-1]), size


def _task(words: Translated, files: Mapping[str, bytes]) -> dict[str, Any]:
    """What is made of the pictures, where the client doesn't say.

    What is transparent is painted, be it of the mask or, without one, of the picture; a picture
    that is opaque everywhere is painted anew as a whole.
    """
    if not files or "task" in words.members:
        return {}
    if "mask" in files or _has_holes(files["image"]):
        return {"task": Task.INPAINT}
    return {"task": Task.VARIATION}


def _has_holes(data: bytes) -> bool:
    try:
        return read_picture(data).alpha is not None
    except ConditioningError:
        return False  # it is refused with all other pictures, when the job is accepted


def _sent_as(files: Mapping[str, bytes]) -> dict[str, str]:
    own_alpha = {"mask": "image"} if "mask" not in files else {}
    return {"width": "size", "height": "size", "previews": "partial_images", **own_alpha}


def require_pictures(files: Mapping[str, bytes]) -> None:
    """Refuses an edit without a picture, or with a mask that marks nothing.

    Raises:
        InvalidRequest: it is so.
    """
    if "image" not in files:
        missing = FieldError("/image", "is required", "missing_required_parameter")
        raise InvalidRequest.of([missing])
    if "mask" in files and not _has_holes(files["mask"]):
        # Other clients' masks are white where to paint, and OpenAI's own guide paints black: a
        # mask without transparency would be understood wrong half of the time.
        detail = "a picture that is transparent where to paint; this one is opaque, or unreadable"
        raise InvalidRequest.of([FieldError("/mask", detail)])


def _wrong_size(detail: str) -> InvalidRequest:
    return InvalidRequest.of([FieldError("/size", detail)])


def _checked(kind: type[Body], members: Mapping[str, Any]) -> Body:
    try:
        return kind.model_validate(members)
    except ValidationError as error:
        raise invalid_request({**e, "loc": ("body", *e["loc"])} for e in error.errors()) from error
