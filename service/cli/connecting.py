"""The server that a command talks to: where it is, and with which key."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from service.cli.serving import load_settings
from service.client import ApiError, GlideClient
from service.errors import Unauthenticated, Unavailable

Url = Annotated[str | None, typer.Option(help="The server; left out: GLIDE_URL.")]
Key = Annotated[
    str | None, typer.Option("--api-key", help="Key of the server; left out: GLIDE_API_KEY.")
]

_HOW_TO_GIVE = "Give a key with GLIDE_API_KEY or --api-key."


@contextmanager
def connected(url: str | None, api_key: str | None) -> Iterator[GlideClient]:
    """A client of the server that is meant.

    Args:
        url: of the command line; None takes the setting.
        api_key: the same.

    Raises:
        Unauthenticated: the server wants a key, or another one.
        Unavailable: it can't be reached.
        ApiError: it refused.
    """
    settings = load_settings()
    with (
        explained(),
        GlideClient(url or settings.url, api_key=api_key or settings.api_key) as client,
    ):
        yield client


@contextmanager
def explained() -> Iterator[None]:
    """Adds to what went wrong what the user can do."""
    try:
        yield
    except ApiError as error:
        if error.status != 401:
            raise
        raise Unauthenticated(f"{error} {_HOW_TO_GIVE}") from error
    except Unavailable as error:
        hint = "Is it running there, and is GLIDE_URL or --url right?"
        raise Unavailable(f"{error}. {hint}") from error
