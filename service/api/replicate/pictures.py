"""The pictures of a prediction: data URLs, and addresses of this very service, which it looks up.

No address is ever fetched. A request that could make the service ask other hosts would let anybody
look into the network that it runs in.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from service.api.pictures import PICTURE_FIELDS
from service.api.replicate.requests import PredictionInput
from service.api.services import Services
from service.api.signed import signed_image
from service.errors import FieldError, Forbidden, InputLost, InvalidRequest, NotFound
from service.store.inputs import fetch_input
from service.views.links import Links

FILES_PATH = "/replicate/v1/files/"
_IMAGES_PATH = "/v1/files/"
_SECONDS = re.compile(r"\d{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class FoundPictures:
    """Pictures by field: those that the intake reads by itself, and those that were fetched."""

    texts: Mapping[str, str]
    files: Mapping[str, bytes]


async def find_pictures(
    asked: PredictionInput, services: Services, links: Links, tenant: str
) -> FoundPictures:
    """The pictures that an input names.

    Args:
        asked: the input.
        services: of the process.
        links: of the server that the client knows.
        tenant: whose uploads count.

    Raises:
        InvalidRequest: one can't be found; names every such field.
        Unavailable: Redis or the store can't be reached.
    """
    texts: dict[str, str] = {}
    files: dict[str, bytes] = {}
    wrong = []
    for name in PICTURE_FIELDS:
        text = getattr(asked, name)
        if text is None:
            continue
        try:
            found = await _found(text, services, links, tenant)
        except (NotFound, Forbidden) as error:
            wrong.append(FieldError(f"/input/{name}", error.detail.rstrip(".")))
            continue
        if isinstance(found, str):
            texts[name] = found
        else:
            files[name] = found
    if wrong:
        raise InvalidRequest.of(wrong)
    return FoundPictures(texts, files)


async def _found(text: str, services: Services, links: Links, tenant: str) -> str | bytes:
    """A picture's bytes, or what the intake finds it by."""
    if not text.lower().startswith(("http://", "https://")):
        return text
    if not text.startswith(links.base_url + "/"):
        raise NotFound(
            "must be a data URL or the URL of a file uploaded here: the service does not fetch "
            "from other hosts, so that nobody can use it to reach into its network"
        )
    path, _, query = text.removeprefix(links.base_url).partition("?")
    if path.startswith(FILES_PATH):
        file_id = path.removeprefix(FILES_PATH)
        file = await services.files.get(tenant, file_id)
        if file is None:
            raise NotFound(f"there is no file {file_id!r}, or none any more: upload it again")
        return await asyncio.to_thread(_kept, file.sha256, services)
    if path.startswith(_IMAGES_PATH):
        return await _own_image(path, query, services)
    raise NotFound("is no file of this service")


def _kept(sha256: str, services: Services) -> bytes:
    try:
        return fetch_input(services.store, sha256)
    except InputLost as error:
        raise NotFound(error.detail) from error


async def _own_image(path: str, query: str, services: Services) -> bytes:
    """An image that an earlier prediction made."""
    given = parse_qs(query)
    expires, signature = (given.get(name, [""])[0] for name in ("expires", "signature"))
    expires_s = int(expires) if _SECONDS.fullmatch(expires) else 0
    job_id = path.removeprefix(_IMAGES_PATH).partition("/")[0]
    _, image = await signed_image(services, job_id, path, expires_s, signature)
    return await asyncio.to_thread(services.store.get, image.key)
