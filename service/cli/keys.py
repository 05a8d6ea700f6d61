"""`glide keys`: who may use the service, how often, and for how much.

Works on the Redis of the running `glide serve`, which it finds by the data folder, or on that of
GLIDE_REDIS__URL; where nothing runs, on the folder itself.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from service.api_keys import (
    Allowance,
    ApiKey,
    checked_tenant,
    digest_of,
    new_key_id,
    new_key_text,
)
from service.cli.requests import AsJson
from service.cli.serving import load_settings
from service.queue.embedded import running_redis
from service.queue.key_store import KeyStore
from service.queue.redis import RedisJobQueue
from service.queue.tenants import TenantLimits
from service.settings import Settings

group = typer.Typer(
    help="API keys: create, list, revoke, rotate.", no_args_is_help=True, rich_markup_mode=None
)

Data = Annotated[Path | None, typer.Option(help="Data folder of the `glide serve` that is meant.")]
KeyId = Annotated[str, typer.Argument(help="The key's id: key_…", metavar="ID")]
_LONGEST_NAME = 200
_COLUMNS = ("id", "tenant", "name", "rate", "quota", "concurrency", "weight", "revoked_at")
_LOG_WIDTH = 160


@group.command()
def create(
    tenant: Annotated[str, typer.Option(help="Whose jobs the key sees.")] = "default",
    rate: Annotated[str | None, typer.Option(help="Jobs it may create: 10/s, 60/m, …")] = None,
    quota: Annotated[str | None, typer.Option(help="Images it may ask for: 1000/d, …")] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Jobs of the tenant that run at a time.")
    ] = None,
    weight: Annotated[
        float | None, typer.Option(help="Share of the tenant, in proportion to others'.")
    ] = None,
    name: Annotated[str, typer.Option(help="A remark of your own.")] = "",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Create a key. Its text is shown this once; only a hash of it is kept."""
    text = new_key_text()
    key = ApiKey(
        id=new_key_id(),
        tenant=checked_tenant(tenant),
        digest=digest_of(text),
        created_at_ms=int(time.time() * 1000),
        name=name[:_LONGEST_NAME],
        rate=None if rate is None else Allowance.parse(rate),
        quota=None if quota is None else Allowance.parse(quota),
    )
    with _queue(data) as queue:
        limits = queue.limit(key.tenant, weight=weight, concurrency=concurrency)
        queue.keys.create(key)
    _show_text(text, _record(key, limits), as_json=as_json)


@group.command("list")
def list_keys(data: Data = None, as_json: AsJson = False) -> None:
    """List the keys, the oldest first; never their texts."""
    with _queue(data) as queue:
        keys = queue.keys.list()
        limits = {key.tenant: queue.limits_of(key.tenant) for key in keys}
    records = [_record(key, limits[key.tenant]) for key in keys]
    if as_json:
        typer.echo(json.dumps(records, indent=2))
        return
    table = Table(*(Column(name, overflow="fold") for name in _COLUMNS), box=None)
    for record in records:
        table.add_row(*("" if record[name] is None else str(record[name]) for name in _COLUMNS))
    console = Console()
    if not console.is_terminal:  # a log file: one line for a key
        console = Console(width=max(console.width, _LOG_WIDTH))
    console.print(table)


@group.command()
def revoke(key_id: KeyId, data: Data = None, as_json: AsJson = False) -> None:
    """Void a key, for good and at once."""
    with _queue(data) as queue:
        key = queue.keys.revoke(key_id)
        limits = queue.limits_of(key.tenant)
    if as_json:
        typer.echo(json.dumps(_record(key, limits), indent=2))
    else:
        typer.echo(f"{key.id} of {key.tenant} is revoked.")


@group.command()
def rotate(
    key_id: KeyId,
    grace: Annotated[
        float, typer.Option(min=0, max=31 * 86_400, help="Seconds that the old text still counts.")
    ] = 0.0,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Give a key another text, with the same id and limits; shown this once."""
    text = new_key_text()
    with _queue(data) as queue:
        key = queue.keys.rotate(key_id, digest_of(text), grace)
        limits = queue.limits_of(key.tenant)
    _show_text(text, _record(key, limits), as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Queue:
    """The Redis that is meant: its keys, and the limits of its tenants."""

    keys: KeyStore
    open: Callable[[], RedisJobQueue]

    def limits_of(self, tenant: str) -> TenantLimits:
        return self.limit(tenant, weight=None, concurrency=None)

    def limit(self, tenant: str, *, weight: float | None, concurrency: int | None) -> TenantLimits:
        """Sets what is given, and returns the limits as they are then."""
        return asyncio.run(self._limit(tenant, weight, concurrency))

    async def _limit(
        self, tenant: str, weight: float | None, concurrency: int | None
    ) -> TenantLimits:
        queue = self.open()
        try:
            limits = await queue.tenant(tenant)
            if weight is None and concurrency is None:
                return limits
            await queue.set_tenant(
                tenant,
                weight=limits.weight if weight is None else weight,
                concurrency=limits.concurrency if concurrency is None else concurrency,
            )
            return await queue.tenant(tenant)
        finally:
            await queue.aclose()


@contextmanager
def _queue(data: Path | None) -> Iterator[_Queue]:
    settings: Settings = load_settings()
    prefix = settings.redis.prefix
    with (
        running_redis(settings.redis.url, data or settings.data) as url,
        KeyStore(url, prefix=prefix) as keys,
    ):
        yield _Queue(keys, lambda: RedisJobQueue(url, prefix=prefix))


def _record(key: ApiKey, limits: TenantLimits) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "rate": key.rate and str(key.rate),
        "quota": key.quota and str(key.quota),
        "concurrency": limits.concurrency,
        "weight": limits.weight,
        "created_at": _time(key.created_at_ms),
        "revoked_at": None if key.revoked_at_ms is None else _time(key.revoked_at_ms),
    }


def _time(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="seconds")


def _show_text(text: str, record: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"key": text, **record}, indent=2))
        return
    typer.echo(text)
    facts = ", ".join(f"{name} {value}" for name, value in record.items() if value)
    Console(stderr=True).print(f"{facts}. The key is shown this once.", highlight=False)
