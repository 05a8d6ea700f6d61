"""The pictures that jobs start from, kept under their SHA-256. Knows no job and no format.

Equal pictures are kept once. Each use makes one as young as a new one, so that the sweep takes only
those that nobody has used for long.
"""

import hashlib
import re

from service.errors import InputLost, NotFound
from service.store.protocol import ImageStore

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


def digest_of(data: bytes) -> str:
    """SHA-256 in hex digits, by which a picture is known."""
    return hashlib.sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    """Whether `text` has the form of `digest_of`."""
    return _DIGEST.fullmatch(text) is not None


def keep_input(store: ImageStore, data: bytes) -> str:
    """Keeps a picture and returns its digest; one that was damaged in the store is whole again.

    Raises:
        Unavailable: the store is full or can't be reached.
    """
    digest = digest_of(data)
    store.put(_key(digest), data)
    return digest


def fetch_input(store: ImageStore, digest: str) -> bytes:
    """A kept picture, which counts as a use of it.

    Raises:
        InputLost: it is not there, or no longer what was kept.
        Unavailable: the store can't be reached.
    """
    key = _key(digest)
    try:
        data = store.get(key)
    except NotFound:
        raise no_upload(digest) from None
    if digest_of(data) != digest:
        raise InputLost(f"the upload {digest} is damaged in the store: upload it again")
    store.refresh(key)
    return data


def no_upload(digest: str) -> InputLost:
    """What is said of a picture that is not there, or not there for who asks."""
    return InputLost(f"there is no upload {digest}, or none any more: upload it again")


def _key(digest: str) -> str:
    return f"inputs/{digest}"
