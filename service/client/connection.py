"""Where the server is, and what every request carries. Pure."""

import re
from typing import Any

from service.errors import InvalidRequest
from service.version import service_version

_ADDRESS = re.compile(r"https?://[^\s/]+\S*", re.IGNORECASE)
_KEY = re.compile(r"[!-~]+")


def connection_options(base_url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """What a client of `httpx` is made with.

    Raises:
        InvalidRequest: this is no address, or a key that no header can carry.
    """
    if not _ADDRESS.fullmatch(base_url):
        raise InvalidRequest(f"{base_url!r} is no address such as http://127.0.0.1:8000.")
    headers = {"User-Agent": f"glide-service/{service_version()}"}
    key = (api_key or "").strip()
    if key:
        if not _KEY.fullmatch(key):
            raise InvalidRequest("The API key has characters that no key has.")
        headers["Authorization"] = f"Bearer {key}"
    return {"base_url": base_url, "headers": headers, "timeout": timeout_s}
