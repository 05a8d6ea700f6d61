"""Engine: jobs join and leave the running batch between any two denoising steps.

The engine holds one trajectory for each image in flight. `step` asks the scheduler who shares the
next step, runs it, promotes those that end a stage and hands out what came to an end. It does no
I/O, has no clock and no threads: whoever owns the device calls it.
"""

import logging
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from model.errors import ModelError
from model.imaging import Pictures
from model.params import SamplingParams
from model.sampling.trajectory import Trajectory
from service.engine.runner import ModelRunner
from service.engine.scheduler import Batch, BatchKey, Scheduler
from service.errors import JobError, OutOfMemory

Failure = ModelError | JobError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class FinishedImage:
    """Image `index` of a job, drawn from `seed`, `pixels` (H, W, 3) uint8."""

    job_id: str
    index: int
    pixels: NDArray[np.uint8]
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class PreviewImage:
    """x̂₀ of image `index` after `step` of the job's steps, `pixels` (h, w, 3) uint8."""

    job_id: str
    index: int
    step: int
    pixels: NDArray[np.uint8]


@dataclass(slots=True)
class StepOutput:
    """What one step brought.

    Attributes:
        batch_key: what the rows had in common; None when there was nothing to do.
        trajectories: how many shared the step.
        rows: rows of the network call.
        work: what it came to, in the unit of `model.catalog.total_work`.
        started: jobs that took their first step, with the number of steps between `add` and it.
        progress: network steps done so far, for each job that advanced.
        images: images that are finished.
        previews: pictures of what is still in flight.
        finished: jobs whose last image is finished.
        failed: jobs that failed, with the reason; they have left the engine.
    """

    batch_key: BatchKey | None = None
    trajectories: int = 0
    rows: int = 0
    work: int = 0
    started: dict[str, int] = field(default_factory=dict)
    progress: dict[str, int] = field(default_factory=dict)
    images: list[FinishedImage] = field(default_factory=list)
    previews: list[PreviewImage] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    failed: list[tuple[str, Failure]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Resident:
    """One image in flight; `steps` counts its network steps over all stages, one costs `work`."""

    job: "_Job"
    index: int
    trajectory: Trajectory
    work: int
    steps: int = 0


@dataclass(slots=True, eq=False)
class _Job:
    """A job in flight; `drawn` waits until all is there that `best_of` chooses from."""

    job_id: str
    params: SamplingParams
    pictures: Pictures | None
    skip: frozenset[int]
    steps_per_image: int
    steps: int
    added_at: int
    started: bool = False
    residents: set[_Resident] = field(default_factory=set)
    drawn: dict[int, FinishedImage] = field(default_factory=dict)


class Engine:
    """Denoises any number of jobs together.

    Args:
        runner: the loaded pipelines.
        max_batch: most trajectories that share one step.
    """

    def __init__(self, runner: ModelRunner, max_batch: int) -> None:
        self._runner = runner
        self._scheduler: Scheduler[_Resident] = Scheduler(max_batch)
        self._jobs: dict[str, _Job] = {}
        self._steps = 0

    @property
    def max_batch(self) -> int:
        """Most trajectories that share one step."""
        return self._scheduler.max_batch

    @property
    def trajectories(self) -> int:
        """Images in flight."""
        return len(self._scheduler)

    @property
    def jobs(self) -> tuple[str, ...]:
        """Ids of the jobs in flight."""
        return tuple(self._jobs)

    def add(
        self,
        job_id: str,
        params: SamplingParams,
        skip: Collection[int] = (),
        pictures: Pictures | None = None,
        tenant: Hashable = None,
    ) -> None:
        """Takes a job in; its images share the next steps.

        Args:
            job_id: any name that no job in flight has.
            params: what to make.
            skip: indices of images that an earlier attempt has finished; not all of them.
            pictures: what the request's `image` and `mask` name.
            tenant: who is served fairly beside the other tenants with jobs in flight.

        Raises:
            ModelError: the request can't be served; nothing was taken in.
            JobError: preparing it failed on the device; nothing was taken in.
        """
        assert job_id not in self._jobs
        done = frozenset(skip) if params.best_of is None else frozenset()  # the best of all drawn
        try:
            self._runner.require(params.model, self._models_in_flight())
            trajectories = self._runner.prepare(params, done, pictures)
        except RuntimeError as error:
            raise _as_failure(error) from error
        each = self._runner.steps_per_image(params)
        job = _Job(job_id, params, pictures, frozenset(skip), each, each * len(done), self._steps)
        indices = (index for index in range(params.drawn) if index not in done)
        for index, trajectory in zip(indices, trajectories, strict=True):
            resident = _Resident(job, index, trajectory, self._runner.work(params, trajectory))
            job.residents.add(resident)
            key = self._runner.key(params, trajectory)
            self._scheduler.admit(resident, key, tenant, resident.work)
        self._jobs[job_id] = job

    def has_room(self, params: SamplingParams) -> bool:
        """Whether `add` finds the pipeline loaded or can load it beside those in flight."""
        return self._runner.has_room(params.model, self._models_in_flight())

    def _models_in_flight(self) -> set[str]:
        return {job.params.model for job in self._jobs.values()}

    def cancel(self, job_id: str) -> bool:
        """Lets a job's trajectories go; False when no such job is in flight."""
        job = self._jobs.pop(job_id, None)
        if job is None:
            return False
        for resident in job.residents:
            self._scheduler.remove(resident)
        return True

    def step(self) -> StepOutput:
        """Advances one batch by one denoising step.

        Raises:
            torch.AcceleratorError: the device is lost; only a new process can go on.
        """
        output = StepOutput()
        batch = self._scheduler.next_batch()
        if batch is None:
            return output
        self._steps += 1
        output.batch_key = batch.key
        for resident in self._run(batch, output):
            self._settle(resident, output)
        return output

    def _run(self, batch: Batch[_Resident], output: StepOutput) -> Sequence[_Resident]:
        """Runs a batch; returns who advanced."""
        output.trajectories = len(batch.items)
        try:
            output.rows = self._runner.run(batch.key, [item.trajectory for item in batch.items])
        except torch.AcceleratorError:
            raise
        except torch.OutOfMemoryError as error:
            return self._make_room(batch, error, output)
        except (ModelError, RuntimeError) as error:
            if len(batch.items) == 1:
                self._fail(batch.items[0].job, error, output)
                return ()
            return self._run_alone(batch, output)
        return batch.items

    def _make_room(
        self, batch: Batch[_Resident], error: RuntimeError, output: StepOutput
    ) -> Sequence[_Resident]:
        """Learns a lower cap, for the next step to use; one row that doesn't fit alone fails."""
        size = len(batch.items)
        if size == 1:
            self._fail(batch.items[0].job, error, output)
        else:
            self._scheduler.lower_cap(batch.key, size // 2)
            logger.warning(
                "out_of_memory", extra={"trajectories": size, "cap": size // 2, "key": batch.key}
            )
        return ()

    def _run_alone(self, batch: Batch[_Resident], output: StepOutput) -> Sequence[_Resident]:
        """Runs the rows of a failed batch one by one, so that only the culprit fails."""
        advanced: list[_Resident] = []
        for resident in batch.items:
            if resident.job.job_id not in self._jobs:
                continue  # another image of the job has failed just now
            advanced += self._run(Batch(batch.key, (resident,)), output)
        output.trajectories = len(batch.items)
        return [resident for resident in advanced if resident.job.job_id in self._jobs]

    def _settle(self, resident: _Resident, output: StepOutput) -> None:
        """Counts a step; promotes or hands out what has ended."""
        job = resident.job
        if job.job_id not in self._jobs:
            return  # another image of the job has failed in this step
        resident.steps += 1
        job.steps += 1
        output.work += resident.work
        if not job.started:
            job.started = True
            output.started[job.job_id] = self._steps - job.added_at - 1
        try:
            self._collect(resident, output)
        except (ModelError, RuntimeError) as error:
            self._fail(job, error, output)
            return
        output.progress[job.job_id] = job.steps
        if not job.residents:
            del self._jobs[job.job_id]
            output.finished.append(job.job_id)

    def _collect(self, resident: _Resident, output: StepOutput) -> None:
        job = resident.job
        if _preview_due(resident):
            pixels = self._runner.preview(job.params, resident.trajectory)
            output.previews.append(PreviewImage(job.job_id, resident.index, job.steps, pixels))
        if not resident.trajectory.done:
            return
        promoted = self._runner.promote(job.params, resident.trajectory, job.pictures)
        if promoted is not None:
            resident.trajectory = promoted
            resident.work = self._runner.work(job.params, promoted)
            self._scheduler.move(resident, self._runner.key(job.params, promoted), resident.work)
            return
        pixels = self._runner.image(job.params, resident.trajectory)
        image = FinishedImage(job.job_id, resident.index, pixels, resident.trajectory.seed)
        self._scheduler.remove(resident)
        job.residents.discard(resident)
        if job.params.best_of is None:
            output.images.append(image)
            return
        job.drawn[image.index] = image
        if not job.residents:
            output.images += self._best(job)

    def _best(self, job: _Job) -> list[FinishedImage]:
        """The images of a `best_of` that stay, numbered from the best."""
        drawn = [job.drawn[index] for index in sorted(job.drawn)]
        scores = self._runner.rank(job.params, [image.pixels for image in drawn])
        ranked = sorted(zip(scores, drawn, strict=True), key=lambda pair: -pair[0])
        return [
            replace(image, index=place)
            for place, (_, image) in enumerate(ranked[: job.params.n])
            if place not in job.skip
        ]

    def _fail(self, job: _Job, error: Exception, output: StepOutput) -> None:
        self.cancel(job.job_id)
        output.failed.append((job.job_id, _as_failure(error)))
        output.progress.pop(job.job_id, None)


def _preview_due(resident: _Resident) -> bool:
    """Whether a preview belongs to this step: `previews` of them, evenly spread over the image."""
    wanted, total = resident.job.params.previews + 1, resident.job.steps_per_image
    passed = (resident.steps * wanted) // total
    return passed > ((resident.steps - 1) * wanted) // total and resident.steps < total


def _as_failure(error: Exception) -> Failure:
    """What a job's client is told of an error on the device; the log keeps the whole."""
    if isinstance(error, ModelError | JobError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return OutOfMemory("The device has no room for this image, even alone.")
    logger.error("step_failed", exc_info=error)
    return JobError("The network failed on this image; the worker's log says why.")
