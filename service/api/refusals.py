"""A refusal before it takes a form, for every dialect to put into its own words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.errors import FieldError


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request gets no answer.

    Attributes:
        status: of the HTTP response, as the native API has it.
        code: the kind of error, for programs.
        title: the kind of error, in words.
        detail: what is wrong this time.
        errors: the bad fields.
        members: facts for programs, beside the standard ones.
        headers: of the response, whatever the dialect.
        accepted: the request had been accepted before it failed, so asking again pays twice.
    """

    status: int
    code: str
    title: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    members: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    accepted: bool = False
