"""From a decoded picture to its receipt, to the request that made it, and to the verdict on both.

Whatever a file says is somebody's word: every member is checked before it is believed or shown.
Knows neither HTTP nor Redis; fingerprints read files, so call it from a thread.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from pydantic import ValidationError

from model.catalog import PipelineSpec
from model.checkpoints.fingerprint import known_fingerprint
from model.params import SamplingParams
from service.api.pictures import PICTURE_FIELDS
from service.api.schemas import JobCreate
from service.errors import FieldError, InvalidRequest
from service.imagefile.a1111 import Generation, parse_generation, request_of
from service.imagefile.provenance import CAPTIONS, pixels_sha256, plain
from service.imagefile.reading import ImageFile
from service.jobs import Job, JobStatus
from service.store.inputs import is_digest
from service.views.receipt import DrawnByView, ReceiptView, RerunView

Catalog = Mapping[str, PipelineSpec]
ROUNDING = 2
"""So far apart, of 255, two drawings may be that differ by the rounding of their numbers alone."""

_REQUEST = (JobCreate.model_fields.keys() & {*SamplingParams.__slots__, "output_format"}) - {
    "previews"
}
"""What of a record makes the same picture again."""


def receipt_of(file: ImageFile, catalog: Catalog) -> ReceiptView:
    """What a file says of its making, and how that compares with what is here."""
    if file.record is not None:
        return _own_receipt(file, file.record, catalog)
    if file.generation is not None:
        return _foreign_receipt(file, parse_generation(file.generation))
    return _receipt(file, found=False, source=None)


def request_again(file: ImageFile, catalog: Catalog) -> JobCreate:
    """The request that makes a file's image again, under this server's name of its model.

    It is the whole request, since an image's numbers are rounded a little differently in other
    company; but an image that `best_of` chose is drawn alone, without choosing again.

    Raises:
        InvalidRequest: the file doesn't say enough, or its model is not here.
    """
    record = file.record
    if record is None:
        raise _no_rerun("the file has no record of this service to draw from")
    if any(name not in record for name in CAPTIONS):
        raise _no_rerun("the file leaves out the captions, so it can't be drawn again")
    members, problem = _request_members(record)
    if members is None:
        raise _no_rerun(f"what the file says is no request: {problem}")
    model = _same_model(record, catalog)
    if model is None:
        digest = _text(record, "model_sha256")
        raise _no_rerun(f"this server doesn't have the model that drew it, {digest}")
    if members.get("best_of") is not None:
        members |= {"best_of": None, "n": 1, "seed": _whole(record, "seed")}
    if members.get("seed") is None:
        raise _no_rerun("the file names no seed")
    return JobCreate.model_validate({**members, "model": model})


def index_again(record: Mapping[str, Any]) -> int:
    """Which image of `request_again` is the file's."""
    return 0 if record.get("best_of") is not None else _whole(record, "index") or 0


def is_of(job: Job, body: JobCreate) -> bool:
    """Whether a job makes this request, which is one of `request_again`."""
    made, _ = _request_members({**plain(asdict(job.params)), "output_format": job.output_format})
    asked = body.model_dump(mode="json", exclude_none=True)
    return made is not None and all(made.get(name) == value for name, value in asked.items())


def verdict(
    file: ImageFile, again: ImageFile, *, job_id: str | None, link: str | None
) -> RerunView:
    """How a picture compares with the re-run of its request.

    Args:
        file: the picture.
        again: the re-run's, in the same format.
        job_id: of the re-run.
        link: where that job is found.
    """
    drawn_by = None if again.record is None else _drawn_by(again.record)
    members: dict[str, Any] = {
        "job_id": job_id,
        "status": JobStatus.SUCCEEDED,
        "drawn_by": drawn_by,
        "link": link,
    }
    if file.pixels.shape != again.pixels.shape:
        note = "The picture has another size than the re-run: it was changed."
        none = {"max_difference": None, "different_pixels": None}
        return RerunView(**members, **none, same_pixels=False, note=note)
    difference = np.abs(file.pixels.astype(np.int16) - again.pixels.astype(np.int16))
    largest = int(difference.max(initial=0))
    return RerunView(
        **members,
        same_pixels=largest == 0,
        max_difference=largest,
        different_pixels=int(difference.any(axis=-1).sum()),
        note=_sentence(file, largest, drawn_by),
    )


def unfinished(job_id: str, status: JobStatus, link: str, note: str) -> RerunView:
    """A re-run of which nothing can be said yet, or nothing any more."""
    return RerunView(
        job_id=job_id,
        status=status,
        same_pixels=None,
        max_difference=None,
        different_pixels=None,
        drawn_by=None,
        note=note,
        link=link,
    )


def _own_receipt(file: ImageFile, record: Mapping[str, Any], catalog: Catalog) -> ReceiptView:
    members, problem = _request_members(record)
    digest = _text(record, "model_sha256")
    match, note = _pixels_match(file, _text(record, "pixels_sha256"))
    available = None if digest is None else _same_model(record, catalog) is not None
    return _receipt(
        file,
        found=True,
        source="glide",
        model=_text(record, "model"),
        model_sha256=digest,
        model_available=available,
        job_id=_text(record, "job_id"),
        index=_whole(record, "index"),
        seed=_whole(record, "seed"),
        parameters=members,
        drawn_by=_drawn_by(record),
        pixels_sha256=_text(record, "pixels_sha256"),
        pixels_match=match,
        pixels_note=note,
        problems=[*file.problems, *([problem] if problem else [])],
    )


def _foreign_receipt(file: ImageFile, generation: Generation) -> ReceiptView:
    parameters = request_of(generation)
    return _receipt(
        file,
        found=True,
        source="a1111",
        model=generation.settings.get("Model"),
        seed=parameters.get("seed"),
        parameters=parameters,
    )


def _receipt(file: ImageFile, **members: Any) -> ReceiptView:
    unknown = dict.fromkeys(ReceiptView.model_fields.keys() - {"object", "rerun"})
    height, width = file.pixels.shape[:2]
    seen = {
        "format": file.format,
        "width": width,
        "height": height,
        "digital_source_type": file.digital_source_type,
        "problems": list(file.problems),
        "pixels_note": "the file doesn't say which pixels it was written with",
    }
    return ReceiptView.model_validate({**unknown, **seen, **members})


def _request_members(record: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """The members of the request in a record, and what is wrong with them."""
    given = {name: record[name] for name in _REQUEST if record.get(name) is not None}
    if "job_seed" in record:
        given["seed"] = record["job_seed"]
    lacking = [name for name in CAPTIONS if name not in record]
    for name in PICTURE_FIELDS:
        if name in given and not is_digest(str(given[name])):
            return None, f"/{name}: is not the id of an upload"
    try:
        body = JobCreate.model_validate({"prompt": "", **given})
    except ValidationError as error:
        wrong = error.errors()[0]
        place = "/".join(str(part) for part in wrong["loc"])
        return None, f"/{place}: {wrong['msg']}"
    members = body.model_dump(mode="json", exclude_none=True, include=set(given))
    if lacking:
        return members, f"the captions are left out: {', '.join(lacking)}"
    return members, None


def _same_model(record: Mapping[str, Any], catalog: Catalog) -> str | None:
    """This server's name of the model that drew an image; its own name is tried first."""
    digest, name = _text(record, "model_sha256"), _text(record, "model")
    for candidate in sorted(catalog, key=lambda each: each != name):
        # A pipeline whose files can't be read is not the one that drew anything.
        if digest is not None and known_fingerprint(catalog[candidate]) == digest:
            return candidate
    return None


def _pixels_match(file: ImageFile, digest: str | None) -> tuple[bool | None, str | None]:
    if digest is None:
        return None, "the file doesn't say which pixels it was written with"
    if pixels_sha256(file.pixels) == digest:
        return True, None
    if file.lossless:
        return False, None
    return None, f"{file.format} doesn't keep every pixel: a re-run can be compared with it"


def _drawn_by(record: Mapping[str, Any]) -> DrawnByView:
    return DrawnByView(**{name: _text(record, name) for name in DrawnByView.model_fields})


def _sentence(file: ImageFile, largest: int, drawn_by: DrawnByView | None) -> str:
    if largest == 0:
        return "The re-run gave the same pixels."
    elsewhere = file.record is not None and _drawn_by(file.record) != drawn_by
    if elsewhere:
        return "The re-run differs; another machine or version drew it, and rounds differently."
    if largest <= ROUNDING:
        return "The re-run differs by rounding, as images do that share their steps with others."
    return "The re-run is another picture: this one was changed, or made differently than it says."


def _text(record: Mapping[str, Any], name: str) -> str | None:
    value = record.get(name)
    return value if isinstance(value, str) else None


def _whole(record: Mapping[str, Any], name: str) -> int | None:
    value = record.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _no_rerun(detail: str) -> InvalidRequest:
    return InvalidRequest.of([FieldError("/query/rerun", detail)])
