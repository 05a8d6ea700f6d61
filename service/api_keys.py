"""API keys: their text, what is kept of them, and how one is found. Pure; knows no Redis, no HTTP.

A key is `glide_sk_`, 43 base62 characters of 32 random bytes, and 6 of a CRC-32 over all that goes
before: a scanner of leaked secrets knows it by its form, and a typo is told from a key that was
never given without asking anybody. Only its SHA-256 is kept, which is enough for a secret that
nobody can guess.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from service.errors import InvalidRequest

PREFIX = "glide_sk_"
MAX_COUNT = 100_000_000
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_BYTES, _SECRET_DIGITS, _CHECKSUM_DIGITS, _ID_DIGITS = 32, 43, 6, 12
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_SECRET_DIGITS + _CHECKSUM_DIGITS}}}", re.ASCII)
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_ALLOWANCE = re.compile(r"([0-9]{1,12})\s*/\s*([a-z]+)", re.ASCII)
_UNITS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "s": (1, ("s", "sec", "second")),
    "m": (60, ("m", "min", "minute")),
    "h": (3600, ("h", "hr", "hour")),
    "d": (86_400, ("d", "day")),
}
"""Seconds and spellings of each unit of time, by its shortest spelling."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many of something in so long a time.

    Attributes:
        count: at most, 1 or more.
        window_s: length of the time, s: one second, minute, hour or day.
    """

    count: int
    window_s: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `60/m`, `10/s`, `5/hour`, `1000/d`.

        Raises:
            InvalidRequest: it reads otherwise, or allows nothing or too much.
        """
        found = _ALLOWANCE.fullmatch(text.strip().lower())
        windows = [
            seconds for seconds, spellings in _UNITS.values() if found and found[2] in spellings
        ]
        if not found or not windows:
            raise InvalidRequest(
                f"{text!r} is not a number for a time, such as 10/s, 60/m, 5/h or 1000/d."
            )
        count = int(found[1])
        if not 1 <= count <= MAX_COUNT:
            raise InvalidRequest(f"{text!r}: the number must be from 1 to {MAX_COUNT}.")
        return cls(count, windows[0])

    def __str__(self) -> str:
        unit = next(name for name, (seconds, _) in _UNITS.items() if seconds == self.window_s)
        return f"{self.count}/{unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is kept of a key.

    Attributes:
        id: names it in logs and on the command line; no secret.
        tenant: whose jobs it sees.
        digest: SHA-256 of its text, in hex digits.
        created_at_ms: Unix time.
        name: the owner's own remark.
        rate: requests that create jobs; None: no bound.
        quota: images; None: no bound.
        revoked_at_ms: Unix time since which it is void.
        previous_digest: of the text before a rotation.
        previous_until_ms: Unix time until which that counts too.
    """

    id: str
    tenant: str
    digest: str
    created_at_ms: int
    name: str = ""
    rate: Allowance | None = None
    quota: Allowance | None = None
    revoked_at_ms: int | None = None
    previous_digest: str | None = None
    previous_until_ms: int = 0

    def digests(self, now_ms: int) -> tuple[str, ...]:
        """The digests of the texts that count now: none, one or two."""
        if self.revoked_at_ms is not None:
            return ()
        if self.previous_digest is not None and now_ms < self.previous_until_ms:
            return (self.digest, self.previous_digest)
        return (self.digest,)


class KeyRing:
    """All keys at one moment."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._by_digest: dict[str, ApiKey] = {}
        for key in keys:
            self._by_digest[key.digest] = key
            if key.previous_digest is not None:
                self._by_digest[key.previous_digest] = key

    @property
    def is_empty(self) -> bool:
        """Whether there never was a key; a revoked one counts."""
        return not self._by_digest

    def find(self, text: str, now_ms: int) -> ApiKey | None:
        """The key whose text this is, unless it is void."""
        digest = digest_of(text)
        key = self._by_digest.get(digest)
        if key is None:
            return None
        valid = [hmac.compare_digest(each, digest) for each in key.digests(now_ms)]
        return key if any(valid) else None


def new_key_text() -> str:
    """The text of a fresh key."""
    text = PREFIX + _base62(int.from_bytes(secrets.token_bytes(_SECRET_BYTES)), _SECRET_DIGITS)
    return text + _checksum(text)


def new_key_id() -> str:
    """The name of a fresh key."""
    return "key_" + "".join(secrets.choice(_DIGITS) for _ in range(_ID_DIGITS))


def is_intact(text: str) -> bool:
    """Whether `text` has the form of a key and its checksum fits: it may be one."""
    if not _FORM.fullmatch(text):
        return False
    return text[-_CHECKSUM_DIGITS:] == _checksum(text[:-_CHECKSUM_DIGITS])


def digest_of(text: str) -> str:
    """What is kept of a key's text: its SHA-256 in hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def checked_tenant(name: str) -> str:
    """The name, if a tenant may have it.

    Raises:
        InvalidRequest: it is too long, or has other characters than letters, digits, `.`, `_`, `-`.
    """
    if not _TENANT.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} can't name a tenant: 1 to 64 letters, digits, dots, dashes and underscores, "
            "the first a letter or a digit."
        )
    return name


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECKSUM_DIGITS)


def _base62(number: int, digits: int) -> str:
    written = ""
    for _ in range(digits):
        number, digit = divmod(number, len(_DIGITS))
        written = _DIGITS[digit] + written
    return written
