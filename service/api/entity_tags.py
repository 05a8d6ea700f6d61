"""Entity tags: whether a client already holds what it asks for (RFC 9110, 8.8 and 13.1)."""

import hashlib

from starlette.requests import Request


def entity_tag(content: str) -> str:
    """A strong tag for a body."""
    return f'"{hashlib.sha256(content.encode()).hexdigest()[:32]}"'


def is_held(request: Request, tag: str) -> bool:
    """Whether `If-None-Match` names `tag`."""
    asked = request.headers.get("if-none-match", "").split(",")
    held = [each.strip().removeprefix("W/") for each in asked]
    return tag in held or "*" in held
