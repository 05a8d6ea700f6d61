"""Idempotency keys: what a client calls a request, and whether a second one is the same.

After draft-ietf-httpapi-idempotency-key-header-07. `intake.terms_of` puts both into the terms that
a request is taken on. Knows no body's meaning and no queue.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from service.errors import FieldError, InvalidRequest

LONGEST_KEY = 255
KEY_PATTERN = r'^("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~][!-~]{0,254})$'
"""The header's value: a string of RFC 8941, 3.3.3, or its bare characters, as most clients send."""

_KEY = re.compile(KEY_PATTERN[:-1] + r"\Z", re.ASCII)
_ESCAPED = re.compile(r"\\(.)")


def idempotency_key(request: Request) -> str | None:
    """The key in the header `Idempotency-Key`, quoted or bare; None without the header.

    Raises:
        InvalidRequest: it is there twice, empty, too long, or has other characters.
    """
    sent = request.headers.getlist("idempotency-key")
    if not sent:
        return None
    if len(sent) > 1:
        raise _refusal("is there twice")
    text = sent[0].strip()
    if not _KEY.fullmatch(text):
        raise _refusal(f"1 to {LONGEST_KEY} visible characters of ASCII, quoted or not")
    return _ESCAPED.sub(r"\1", text[1:-1]) if text.startswith('"') else text


def request_digest(
    request: Request, members: Mapping[str, Any], files: Mapping[str, bytes] | None = None
) -> str:
    """SHA-256 of what a request asks for: equal for a repetition, however it is spelled.

    Args:
        request: whose path counts, since a key stands for one operation.
        members: its JSON, or the fields of its form.
        files: that came beside them, by field.
    """
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in (files or {}).items()}
    asked = [request.url.path, dict(members), digests]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _refusal(detail: str) -> InvalidRequest:
    return InvalidRequest.of([FieldError("/header/idempotency-key", detail)])
