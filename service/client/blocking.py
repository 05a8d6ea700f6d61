"""The client for programs without an event loop.

Composes the calls of `calls`; knows neither retries nor sockets.
"""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from service.client import calls
from service.client.blocking_connection import BlockingConnection
from service.client.connection import connection_options
from service.client.fields import JobFields, contents, files_of
from service.client.results import Finished, Job, id_of, require_success
from service.client.retries import Patience
from service.client.streams import Follower
from service.jobs import JobStatus
from service.settings import Settings
from service.views.delivery import DeliveryView, WebhookSecretView
from service.views.event import JobEvent
from service.views.job import JobView
from service.views.model import ModelView
from service.views.receipt import ReceiptView
from service.views.sampler import SamplerView
from service.views.upload import UploadView


class GlideClient:
    """Talks to one server; use it in a `with` block or close it.

    Whatever does no harm when it is asked twice is asked again, with growing pauses, while the
    server can't be reached or asks for patience (408, 429, 502, 503, 504). Every submission carries
    a key of its own by which the server knows a repetition, so that a lost answer makes no second
    job. Its methods raise ApiError when the server refuses, and Unavailable when it can't be
    reached.

    Args:
        base_url: such as `http://127.0.0.1:8000`.
        api_key: of `glide keys create`; none while the server is open.
        timeout_s: for a connection, and for an answer beyond the time it was asked to wait.
        attempts: how often a request is sent at most.
        longest_pause_s: a server that asks for a longer pause is not asked again.
        sleep: how pauses are made.

    Raises:
        InvalidRequest: `base_url` is no address, or `api_key` can't be a key.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        attempts: int = 6,
        longest_pause_s: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = BlockingConnection(
            connection_options(base_url, api_key, timeout_s),
            Patience(attempts, longest_pause_s),
            sleep,
        )

    @classmethod
    def from_env(cls) -> Self:
        """A client of the server at GLIDE_URL, with the key GLIDE_API_KEY."""
        settings = Settings()
        return cls(settings.url, api_key=settings.api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._connection.close()

    def run(
        self,
        prompt: str,
        *,
        on_progress: Callable[[JobEvent], object] | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[JobFields],
    ) -> Finished:
        """Submits a job, follows it to its end and fetches its images.

        A job whose call is interrupted is canceled.

        Args:
            prompt: the caption.
            on_progress: is shown every event as it comes.
            idempotency_key: as for `submit`.
            fields: as for `submit`.

        Raises:
            JobFailed: the job did not succeed.
        """
        job = self.submit(prompt, idempotency_key=idempotency_key, **fields)
        try:
            job = self.watch(job, on_progress)
        except KeyboardInterrupt:
            self.cancel(job)
            raise
        require_success(job)
        return Finished(job, tuple(self.images(job)))

    def submit(
        self,
        prompt: str,
        *,
        wait_s: float = 0.0,
        idempotency_key: str | None = None,
        **fields: Unpack[JobFields],
    ) -> JobView:
        """Queues a job.

        Args:
            prompt: the caption.
            wait_s: how long to wait for its end, in whole seconds.
            idempotency_key: your own name for the request: as long as its job is known, the same
                request with the same name gets the same job. None: one is drawn for this call.
            fields: of `POST /v1/jobs`; pictures may be files, which are uploaded first.

        Raises:
            OSError: a picture can't be read.
        """
        body: dict[str, Any] = {"prompt": prompt, **fields}
        for name, data in files_of(fields).items():
            body[name] = (self.upload(data)).id
        key = idempotency_key or calls.new_idempotency_key()
        return self._connection.send(calls.submit(body, wait_s=wait_s, idempotency_key=key))

    def upload(self, picture: bytes | Path) -> UploadView:
        """Keeps a picture; its `id` may be a job's `image` or `mask`."""
        return self._connection.send(calls.upload(contents(picture)))

    def get(self, job: Job, *, wait_s: float = 0.0) -> JobView:
        """A job, at once or when it is final, after at most `wait_s`."""
        return self._connection.send(calls.get(id_of(job), wait_s=wait_s))

    def wait(self, job: Job) -> JobView:
        """A job when it is final."""
        while not (found := self.get(job, wait_s=calls.LONG_POLL_S)).status.is_final:
            pass
        return found

    def watch(self, job: Job, on_progress: Callable[[JobEvent], object] | None = None) -> JobView:
        """Follows a job to its end, shows every event to `on_progress`, and returns the job."""
        for event in self.events(job, previews=on_progress is not None):
            if on_progress is not None:
                on_progress(event)
        return self.get(job)

    def events(
        self, job: Job, *, after: str | None = None, previews: bool = True
    ) -> Iterator[JobEvent]:
        """The events of a job to its end; a broken connection resumes after the last of them.

        Args:
            job: whose events.
            after: `id` of the last event already seen.
            previews: whether `PreviewView` comes too.
        """
        follower = Follower(id_of(job), after=after, previews=previews)
        return self._connection.follow(follower)

    def jobs(
        self,
        *,
        status: JobStatus | str | None = None,
        model: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int = 20,
    ) -> Iterator[JobView]:
        """All jobs, newest first, fetched page by page.

        Args:
            status: only those that stand so.
            model: only those of this model.
            created_after: only those from this time on; it has a time zone.
            created_before: only those before.
            page_size: 1 … 100.
        """
        cursor: str | None = None
        while True:
            page = self._connection.send(
                calls.list_jobs(
                    cursor=cursor,
                    limit=page_size,
                    status=status,
                    model=model,
                    created_after=created_after,
                    created_before=created_before,
                )
            )
            yield from page.data
            cursor = page.next_cursor
            if cursor is None:
                return

    def cancel(self, job: Job) -> JobView:
        """Stops a job, or leaves a final one as it is."""
        return self._connection.send(calls.cancel(id_of(job)))

    def delete(self, job: Job) -> None:
        """Removes a final job and its images."""
        self._connection.send(calls.delete(id_of(job)))

    def image(self, job: Job, index: int = 0) -> bytes:
        """Finished image `index` of a job, as a file."""
        return self._connection.send(calls.image(id_of(job), index))

    def images(self, job: Job) -> list[bytes]:
        """All images that a job has, as files."""
        record = self.get(job) if isinstance(job, str) else job
        return [self.image(record, image.index) for image in record.images]

    def models(self) -> list[ModelView]:
        """Every model of the server."""
        return self._connection.send(calls.models())

    def model(self, name: str) -> ModelView:
        """One model, by its id or by an alias."""
        return self._connection.send(calls.model(name))

    def samplers(self) -> list[SamplerView]:
        """Every sampler that a job may name."""
        return self._connection.send(calls.samplers())

    def receipt(self, picture: bytes | Path, *, rerun: bool = False) -> ReceiptView:
        """What a picture says of its making; with `rerun` also whether that makes it again."""
        data = contents(picture)
        if not rerun:
            return self._connection.send(calls.receipt(data))
        key, job_id = calls.new_idempotency_key(), None
        while True:
            call = calls.rerun(data, idempotency_key=key, job_id=job_id)
            found = self._connection.send(call)
            if found.rerun is None or found.rerun.status.is_final:
                return found
            job_id = found.rerun.job_id

    def deliveries(self, job: Job) -> list[DeliveryView]:
        """What the job's webhook was told, and what came of it."""
        return self._connection.send(calls.deliveries(id_of(job)))

    def redeliver(self, job: Job, delivery: str | DeliveryView) -> DeliveryView:
        """Sends a delivery to the job's webhook again."""
        delivery_id = delivery if isinstance(delivery, str) else delivery.id
        return self._connection.send(calls.redeliver(id_of(job), delivery_id))

    def webhook_secret(self) -> WebhookSecretView:
        """What verifies the signatures of deliveries."""
        return self._connection.send(calls.webhook_secret())

    def rotate_webhook_secret(self) -> WebhookSecretView:
        """Makes a new secret; the former one signs, too, for a day."""
        return self._connection.send(calls.rotate_webhook_secret())
