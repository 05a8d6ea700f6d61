"""Other words for the fields of a job, as the clients of other services know them.

`num_inference_steps`, `guidance` and `scheduler` are `steps`, `guidance_scale` and `sampler`;
schedulers may have the names of the `diffusers` library. An error names the field as it was sent.
Knows no front door.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from model.params import SamplerName
from service.errors import FieldError, InvalidRequest

SYNONYMS: Mapping[str, str] = {
    "num_inference_steps": "steps",
    "guidance": "guidance_scale",
    "scheduler": "sampler",
}
_SCHEDULERS: Mapping[str, SamplerName] = {
    "ddpm": SamplerName.DDPM,
    "ddim": SamplerName.DDIM,
    "dpmsolvermultistep": SamplerName.DPMPP_2M,
    "unipcmultistep": SamplerName.UNIPC,
}
"""Classes of `diffusers`, in lower case and without `Scheduler`, that compute what ours do."""


@dataclass(frozen=True, slots=True)
class Translated:
    """A request in the words of a job.

    Attributes:
        members: by the names of `JobCreate`.
        sent_as: the client's word of every field that has another.
    """

    members: Mapping[str, Any]
    sent_as: Mapping[str, str]

    @contextmanager
    def refusing(self, **sent_as: str) -> Iterator[None]:
        """Within it, a refusal names the fields as the client sent them.

        Args:
            sent_as: further fields, by the names of `JobCreate`.
        """
        names = {**self.sent_as, **sent_as}
        try:
            yield
        except InvalidRequest as error:
            raise type(error).of(dict.fromkeys(_named(e, names) for e in error.errors)) from error


def translate(members: Mapping[str, Any]) -> Translated:
    """The members of a request by the names of `JobCreate`; null, being no wish, is left out.

    Raises:
        InvalidRequest: the same thing is said twice.
    """
    found: dict[str, Any] = {}
    sent_as: dict[str, str] = {}
    for name, value in members.items():
        own = SYNONYMS.get(name, name)
        if value is None:
            continue
        if own in found:
            other = sent_as.get(own, own)
            raise InvalidRequest.of([FieldError(f"/{name}", f"says the same as {other}: keep one")])
        found[own] = value
        if own != name:
            sent_as[own] = name
    if isinstance(found.get("sampler"), str):
        found["sampler"] = sampler_name(found["sampler"])
    return Translated(found, sent_as)


def sampler_name(name: str) -> str:
    """Our name of a scheduler; any other as it is, to be refused where all fields are checked."""
    return _SCHEDULERS.get(name.lower().removesuffix("scheduler"), name)


def _named(error: FieldError, names: Mapping[str, str]) -> FieldError:
    _, head, *rest = error.pointer.split("/") if error.pointer else ("", "")
    return replace(error, pointer="/".join(["", names.get(head, head), *rest]) if head else "")
