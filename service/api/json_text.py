"""JSON as clients send it, with what a lenient parser would hide said out loud.

An object that names a member twice is refused: whichever of the two counts, a proxy or a policy in
front may have read the other. Knows no request.
"""

import json
from collections.abc import Iterator
from typing import Any

from service.errors import FieldError, InvalidRequest


def parse_json(text: str | bytes) -> Any:
    """The value that `text` spells.

    Raises:
        InvalidRequest: an object names a member twice.
        json.JSONDecodeError: it is no JSON.
        ValueError: it is no UTF-8, or has a number of too many digits.
        RecursionError: it is too deep.
    """
    repeating: list[tuple[dict[str, Any], str]] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        read = dict(pairs)
        if len(read) != len(pairs):
            repeating.append((read, _repeated(pairs)))
        return read

    value = json.loads(text, object_pairs_hook=members)
    if repeating:
        wrong = [
            FieldError(f"{pointer}/{_escaped(name)}", "is there twice")
            for broken, name in repeating
            for pointer in _pointers_to(broken, value)
        ]
        raise InvalidRequest.of(wrong or [FieldError("", "names a member twice")])
    return value


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("a name is there twice")


def _pointers_to(wanted: dict[str, Any], value: Any, pointer: str = "") -> Iterator[str]:
    """Where the very object `wanted` is within `value`, as a JSON pointer; nowhere, or once."""
    if value is wanted:
        yield pointer
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from _pointers_to(wanted, member, f"{pointer}/{_escaped(name)}")
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _pointers_to(wanted, member, f"{pointer}/{index}")


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
