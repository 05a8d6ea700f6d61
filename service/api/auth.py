"""Who asks: from a request's key to the principal that it stands for."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whoever sent a request.

    Attributes:
        tenant: whose jobs it sees.
        key_id: of its API key; None where the server is open.
    """

    tenant: str = "default"
    key_id: str | None = None


async def authenticate() -> Principal:
    """The principal of a request."""
    return Principal()


PrincipalDep = Annotated[Principal, Depends(authenticate)]
