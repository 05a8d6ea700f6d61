"""Every setting of the service: one frozen group for each part, read once per process.

Set by environment variables: `GLIDE_` + group + `__` + name, such as `GLIDE_REDIS__URL`. An unknown
variable of that form is an error, so that a misspelling is heard at once. No other module reads the
environment.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
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


class StoreSettings(_Group):
    """Where finished images are kept."""

    path: Path = Field(Path("data/images"), description="root folder of the filesystem store")


class ApiSettings(_Group):
    """The HTTP front end."""

    host: str = Field("127.0.0.1", description="address to bind")
    port: int = Field(8000, ge=0, le=65_535, description="port to bind; 0 picks a free one")
    max_body_bytes: int = Field(1 << 20, gt=0, description="largest request body, pictures apart")
    max_picture_bytes: int = Field(16 << 20, gt=0, description="largest picture of a client")
    max_wait_s: float = Field(60.0, gt=0, description="longest long poll")
    keepalive_s: float = Field(15.0, gt=0, description="time between comments on a quiet stream")


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


class LogSettings(_Group):
    """Logging."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="threshold")
    format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal")


class Settings(BaseSettings):
    """All groups."""

    model_config = SettingsConfigDict(
        env_prefix="GLIDE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data: Path = Field(Path("data"), description="folder of the embedded Redis and its lock")
    redis: RedisSettings = RedisSettings()
    queue: QueueSettings = QueueSettings()
    store: StoreSettings = StoreSettings()
    api: ApiSettings = ApiSettings()
    worker: WorkerSettings = WorkerSettings()
    models: ModelsSettings = ModelsSettings()
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
