"""The version of the installed distribution."""

from importlib.metadata import PackageNotFoundError, version


def service_version() -> str:
    """Such as `0.1.0`; `0+source` where the sources run without being installed."""
    try:
        return version("glide-service")
    except PackageNotFoundError:
        return "0+source"
