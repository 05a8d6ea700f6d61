"""The client of the HTTP API: `GlideClient`, and `AsyncGlideClient` for programs with a loop."""

from service.client.awaiting import AsyncGlideClient
from service.client.blocking import GlideClient
from service.client.errors import ApiError, JobFailed, UnreadableAnswer
from service.client.results import Finished

__all__ = [
    "ApiError",
    "AsyncGlideClient",
    "Finished",
    "GlideClient",
    "JobFailed",
    "UnreadableAnswer",
]
