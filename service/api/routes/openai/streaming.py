"""A job as OpenAI's clients stream it: partial images, then each image, or an error.

Their parser stops at `id:` and `retry:`, so there is neither, and comments alone keep a quiet
stream open. The last event is a finished image or an error: a stream that just ends looks like
success to them. Knows no request's words.
"""

import asyncio
import base64
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fastapi.sse import format_sse_event
from starlette.types import Receive, Scope, Send

from service.api.dialects.openai import error_of
from service.api.following import followed, patiently
from service.api.outcomes import leave, require_success
from service.api.problems import refusal_of
from service.api.routes.openai.answers import image_base64, usage_of
from service.api.routes.openai.orders import Delivery
from service.api.scaling import scaled
from service.api.services import Services
from service.api.streams import EventStream
from service.errors import ServiceError
from service.events import Image, Preview
from service.jobs import Job

Kind = Literal["image_generation", "image_edit"]


class ImageStream(EventStream):
    """The stream of a job; the job is stopped if its client goes before its end.

    Args:
        job: as accepted.
        delivery: how its images are to come.
        kind: what its events are called after.
        services: of the process.
        named: the client has a name for the job, by which it may ask again.
    """

    def __init__(
        self, job: Job, delivery: Delivery, kind: Kind, services: Services, *, named: bool
    ) -> None:
        self._telling = _Telling(job, delivery, kind, services)
        self._named = named
        super().__init__(self._telling.blocks(), services.settings.api.keepalive_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if not self._telling.ended:
                await leave(self._telling.job, self._telling.services, named=self._named)


@dataclass(eq=False)
class _Telling:
    """What is told of a job."""

    job: Job
    delivery: Delivery
    kind: Kind
    services: Services
    ended: bool = False
    _partial: Counter[int] = field(default_factory=Counter)

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """The events, encoded."""
        try:
            following = followed(self.services.queue, self.job.id)
            async with contextlib.aclosing(following) as events:
                async for _, event in events:
                    match event:
                        case Preview():
                            yield await self._partial_image(event)
                        case Image():
                            yield await self._completed(event)
            self.ended = True
            ended = await patiently(lambda: self.services.queue.get(self.job.id))
            require_success(ended or self.job)
        except ServiceError as error:
            yield _block("error", {"error": error_of(refusal_of(error))})

    async def _partial_image(self, event: Preview) -> bytes:
        size, output_format = self.delivery.size, self.job.output_format
        preview = base64.b64decode(event.png_base64)
        data = await asyncio.to_thread(scaled, preview, size, output_format)
        number = self._partial[event.index]
        self._partial[event.index] += 1
        return self._told(
            "partial_image",
            event.index,
            b64_json=base64.b64encode(data).decode(),
            partial_image_index=number,
        )

    async def _completed(self, event: Image) -> bytes:
        record = event.record
        encoded = await image_base64(self.job, record, self.delivery, self.services)
        work = self.job.work // self.job.params.n
        return self._told(
            "completed",
            record.index,
            b64_json=encoded,
            seed=record.seed,
            usage=usage_of(self.job, work, self.services).model_dump(),
        )

    def _told(self, what: str, index: int, **members: Any) -> bytes:
        name = f"{self.kind}.{what}"
        told = {
            "type": name,
            "created_at": int(time.time()),
            "size": self.delivery.size_text,
            "quality": self.delivery.quality,
            "background": "opaque",
            "output_format": self.job.output_format,
            "image_index": index,
        }
        return _block(name, told | members)


def _block(name: str, data: Mapping[str, Any]) -> bytes:
    return format_sse_event(event=name, data_str=json.dumps(data))
