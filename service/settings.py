"""Every setting of the service: one frozen group for each part, read once per process.

Set by environment variables: `GLIDE_` + group + `__` + name, such as `GLIDE_REDIS__URL`. An unknown
variable of that form is an error, so that a misspelling is heard at once. No other module reads the
environment.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RedisSettings(_Group):
    """Where the queue lives."""

    url: str | None = Field(None, description="redis://, rediss:// or unix://; none: embedded")
    prefix: str = Field("glide:{q}:", description="prefix of every key; the braces are its slot")


class QueueSettings(_Group):
    """Bounds and times of the queue."""

    lease_s: float = Field(5.0, gt=0, description="a lease not renewed for this long is given away")
    heartbeat_s: float = Field(1.0, gt=0, description="time between renewals")
    stall_s: float = Field(60.0, gt=0, description="no step for this long: stop renewing")
    retention_s: int = Field(86_400, gt=0, description="how long a final job is kept")
    max_queued: int = Field(10_000, gt=0, description="jobs waiting before submissions are refused")
    max_queued_per_tenant: int = Field(1_000, gt=0, description="the same for one tenant")
    max_attempts: int = Field(3, gt=0, description="leases of a job before it fails for good")
    priority_s: float = Field(
        300.0, ge=0, description="a high priority counts as so much earlier, a low one as later"
    )


class StoreSettings(_Group):
    """Where finished images are kept."""

    path: Path = Field(Path("data/images"), description="root folder of the filesystem store")


class ApiSettings(_Group):
    """The HTTP front end."""

    host: str = Field("127.0.0.1", description="address to bind")
    port: int = Field(8000, ge=0, le=65_535, description="port to bind; 0 picks a free one")
    max_body_bytes: int = Field(1 << 20, gt=0, description="largest request body, pictures apart")
    max_picture_bytes: int = Field(16 << 20, gt=0, description="largest picture of a client")
    max_wait_s: float = Field(55.0, gt=0, description="longest long poll")
    body_timeout_s: float = Field(30.0, gt=0, description="longest pause within a request")
    keepalive_s: float = Field(15.0, gt=0, description="time between comments on a quiet stream")
    max_connections: int = Field(10_000, gt=0, description="connections at a time; more get 503")
    open: bool = Field(
        False, description="serve everybody, and not only loopback, until there is an API key"
    )
    cors_origins: tuple[str, ...] = Field((), description="origins whose pages may ask; [*]: all")
    trusted_proxies: tuple[str, ...] = Field(
        ("127.0.0.1", "::1"), description="addresses whose X-Forwarded headers count; [*]: all"
    )
    signing_key: str | None = Field(
        None, repr=False, description="of links to images; none: one that Redis keeps for all"
    )


class WorkerSettings(_Group):
    """The process that owns a device."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")
    dtype: Literal["float32", "float16", "bfloat16"] = Field(
        "float32", description="of the networks"
    )
    models: tuple[str, ...] = Field((), description="pipelines to serve; none: all")
    max_loaded: int = Field(0, ge=0, description="pipelines loaded at a time; 0: no bound")
    max_loaded_bytes: int = Field(
        0, ge=0, description="bytes of weights loaded at a time; 0: no bound"
    )
    max_batch: int = Field(8, gt=0, description="trajectories that share one step")
    threads: int = Field(0, ge=0, description="CPU threads of torch; 0 leaves torch's default")
    drain_s: float = Field(25.0, ge=0, description="time to finish after SIGTERM")


class ModelsSettings(_Group):
    """Which pipelines there are beside the built-in one."""

    home: Path = Field(Path("data/models"), description="folder of what `glide models` pulls")
    folders: tuple[Path, ...] = Field((), description="pipeline folders, or folders of them")
    mirror: str | None = Field(None, description="URL to pull files from; none: their publishers")
    clip: Path | None = Field(None, description="folder of a CLIP that ranks images for best_of")
    aliases: dict[str, str] = Field({}, description="other names of pipelines, by name")


class OpenAISettings(_Group):
    """The OpenAI-compatible routes."""

    resize: bool = Field(False, description="scale to sizes that a pipeline does not make")


class WebhookSettings(_Group):
    """Deliveries to clients' servers."""

    allow_private: bool = Field(
        False, description="deliver to private addresses and over plain http"
    )
    timeout_s: float = Field(20.0, gt=0, description="longest wait for a receiver's answer")
    concurrency: int = Field(64, gt=0, description="deliveries at a time in one process")


class PolicySettings(_Group):
    """What may be drawn."""

    deny: Path | None = Field(None, description="file of phrases, one a line, that are refused")
    allow: Path | None = Field(None, description="file of phrases, of which a caption needs one")
    image_check: str | None = Field(
        None, description="`module:function` that the worker shows every finished image"
    )


class LogSettings(_Group):
    """Logging."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="threshold")
    format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal")


class Settings(BaseSettings):
    """All groups."""

    model_config = SettingsConfigDict(
        env_prefix="GLIDE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    @field_validator("public_url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "http://none")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError("an address such as https://pictures.example or https://host/prefix")
        if parts.query or parts.fragment:
            raise ValueError("an address without a query")
        return url

    data: Path = Field(Path("data"), description="folder of the embedded Redis and its lock")
    public_url: str | None = Field(
        None, description="address that clients know the API by; none: that of the request"
    )
    url: str = Field("http://127.0.0.1:8000", description="server that the command line talks to")
    api_key: str | None = Field(None, repr=False, description="key that the command line sends")
    redis: RedisSettings = RedisSettings()
    queue: QueueSettings = QueueSettings()
    store: StoreSettings = StoreSettings()
    api: ApiSettings = ApiSettings()
    worker: WorkerSettings = WorkerSettings()
    models: ModelsSettings = ModelsSettings()
    openai: OpenAISettings = OpenAISettings()
    webhooks: WebhookSettings = WebhookSettings()
    policy: PolicySettings = PolicySettings()
    log: LogSettings = LogSettings()


def known_variables() -> list[str]:
    """The name of every environment variable that sets something, sorted."""
    names = []
    for name, field in Settings.model_fields.items():
        group = field.annotation
        members: Iterable[str] = (
            group.model_fields if isinstance(group, type) and issubclass(group, BaseModel) else ()
        )
        names += [f"GLIDE_{name}__{member}".upper() for member in members] or [
            f"GLIDE_{name}".upper()
        ]
    return sorted(names)


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Those of the environment's `names` that look like settings and are none, sorted."""
    known = set(known_variables())
    return sorted(
        name for name in names if name.upper().startswith("GLIDE_") and name.upper() not in known
    )
