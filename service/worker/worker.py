"""Worker: the step loop. One thread owns the device and nothing else may touch it.

The loop takes arrivals into the engine, drops what was canceled or lost, steps, and hands what came
out to the courier; leasing brings new jobs and the heartbeat keeps the leases meanwhile. It waits
for neither network nor disk.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty
from threading import Thread

from model.errors import ModelError
from service.engine.engine import Engine, Failure, StepOutput
from service.errors import JobError
from service.jobs import JobFailure
from service.worker.courier import (
    Arrival,
    Courier,
    ImageReady,
    JobDone,
    JobFailed,
    JobReleased,
    PreviewReady,
)
from service.worker.leases import Drop, Heartbeat, HeldLeases
from service.worker.leasing import Leasing
from service.worker.work_rate import WorkRate

IDLE_S = 0.2
SUMMARY_S, IDLE_SUMMARY_S = 10.0, 1.0
RETRY_DELAY_S = 2.0
DELIVERY_SHARE = 0.2
"""This share of the time to drain is kept for delivering what is finished."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Tally:
    """What happened since the last summary in the log."""

    since_s: float
    steps: int = 0
    rows: int = 0
    most_rows: int = 0
    images: int = 0

    def count(self, output: StepOutput) -> None:
        self.steps += 1
        self.rows += output.rows
        self.most_rows = max(self.most_rows, output.rows)
        self.images += len(output.images)


class Worker:
    """Drives the engine until told to stop.

    Args:
        engine: with its pipelines loaded.
        leasing: not started yet.
        courier: not started yet.
        heartbeat: not started yet.
        held: the leases that all of them share.
        rate: told of every step.
        drain_s: time to finish what is in flight once told to stop.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        engine: Engine,
        leasing: Leasing,
        courier: Courier,
        heartbeat: Heartbeat,
        held: HeldLeases,
        *,
        rate: WorkRate,
        drain_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._leasing = leasing
        self._courier = courier
        self._heartbeat = heartbeat
        self._held = held
        self._rate = rate
        self._drain_s = drain_s
        self._clock = clock
        self._stopping = False  # no Event: its lock is not safe in a signal handler
        self._tally = _Tally(clock())
        self._busy_since_s = clock()
        self._waiting: Arrival | None = None  # its model has no room until those in flight end

    def stop(self) -> None:
        """Fetches no new jobs, finishes what is in flight or hands it back, ends `run`.

        Safe to call from a signal handler and from any thread.
        """
        self._stopping = True

    def run(self) -> None:
        """Serves until `stop`, then drains.

        Raises:
            RuntimeError: a thread has died or the device is lost; the leases run out.
        """
        self._heartbeat.start()
        self._courier.start()
        self._leasing.start()
        while not self._stopping:
            self._turn(IDLE_S)
        self._drain()

    def _turn(self, wait_s: float) -> None:
        """One round of the loop: drops, arrivals, one step."""
        self._heartbeat.moved()
        self._require_threads()
        self._leave()
        if self._engine.trajectories:
            self._admit(0.0)
        else:
            self._admit(wait_s)
            self._busy_since_s = self._clock()
        if self._engine.trajectories:
            output = self._engine.step()
            self._report(output)
            self._hand_out(output)
        self._summarize()

    def _require_threads(self) -> None:
        alive = self._courier.is_alive() and self._heartbeat.is_alive()
        if not (alive and (self._stopping or self._leasing.is_alive())):
            raise RuntimeError("A thread of the worker has died; its traceback says why.")

    def _leave(self) -> None:
        """Lets go of what was canceled, lost or given back."""
        for token, why in self._held.take_drops():
            self._engine.cancel(token)
            self._held.left_engine(token)
            if why is Drop.CANCELED:
                self._courier.send(JobReleased(token))

    def _admit(self, wait_s: float) -> None:
        """Takes in whatever has arrived; waits for it only when there is nothing to denoise.

        A job whose model has no room beside those in flight waits for their end, and all that came
        after it with it: else a steady stream for one model would keep out another for ever.
        """
        try:
            while True:
                arrival = self._waiting or self._courier.arrivals.get(wait_s > 0, wait_s)
                self._waiting = arrival if self._must_wait(arrival) else None
                if self._waiting:
                    return
                self._add(arrival)
                wait_s = 0.0
        except Empty:
            return

    def _must_wait(self, arrival: Arrival) -> bool:
        wanted = self._held.is_wanted(arrival.lease.token)
        return wanted and not self._engine.has_room(arrival.lease.job.params)

    def _add(self, arrival: Arrival) -> None:
        job, token = arrival.lease.job, arrival.lease.token
        if not self._held.is_wanted(token):
            return
        finished = {image.index for image in job.images}
        if len(finished) == job.params.n:
            self._held.left_engine(token)
            self._courier.send(JobDone(token))
            return
        try:
            self._engine.add(token, job.params, finished, arrival.pictures, job.tenant)
        except (ModelError, JobError) as error:
            self._fail(token, error)

    def _hand_out(self, output: StepOutput) -> None:
        """Sends on what a step brought; the engine knows a job by its lease's token."""
        for token, waited in output.started.items():
            if lease := self._held.get(token):
                extra = {"job_id": lease.job.id, "waited_steps": waited}
                logger.debug("first step", extra=extra)
        for token, step in output.progress.items():
            self._held.progress(token, step)
        for preview in output.previews:
            self._courier.send(
                PreviewReady(preview.job_id, preview.index, preview.step, preview.pixels)
            )
        for image in output.images:
            self._courier.send(ImageReady(image.job_id, image.index, image.seed, image.pixels))
        for token in output.finished:
            self._held.left_engine(token)
            self._courier.send(JobDone(token))
        for token, error in output.failed:
            self._fail(token, error)

    def _fail(self, token: str, error: Failure) -> None:
        self._held.left_engine(token)
        failure = JobFailure(code=error.code, detail=str(error), retryable=error.retryable)
        self._courier.send(JobFailed(token, failure, RETRY_DELAY_S if error.retryable else None))

    def _drain(self) -> None:
        """Finishes what is in flight within the time there is; the courier hands back the rest."""
        until = self._clock() + self._drain_s
        logger.info("draining", extra={"jobs": len(self._held), "drain_s": self._drain_s})
        self._leasing.stop()
        while self._clock() < until - DELIVERY_SHARE * self._drain_s:
            self._turn(0.0)
            if self._is_idle():
                break
        self._await(self._leasing, until)  # what it brought last is handed back too
        self._courier.finish()
        self._await(self._courier, until)
        self._courier.hurry()
        self._courier.join(timeout=1.0)
        self._heartbeat.stop()
        self._heartbeat.join(timeout=1.0)
        logger.info("drained", extra={"leases_left": len(self._held)})

    def _await(self, thread: Thread, until: float) -> None:
        while thread.is_alive() and self._clock() < until:
            self._heartbeat.moved()
            thread.join(timeout=IDLE_S)

    def _is_idle(self) -> bool:
        waiting = self._waiting is not None or not self._courier.arrivals.empty()
        return not self._engine.trajectories and not waiting

    def _report(self, output: StepOutput) -> None:
        self._tally.count(output)
        now = self._clock()
        self._rate.count(output.work, now - self._busy_since_s)
        self._busy_since_s = now
        if output.batch_key is not None:
            logger.debug(
                "step",
                extra={
                    "pipeline": output.batch_key.pipeline,
                    "stage": output.batch_key.stage,
                    "rows": output.rows,
                    "trajectories": output.trajectories,
                    "resident": self._engine.trajectories,
                },
            )

    def _summarize(self) -> None:
        """Logs what the steps shared: now and then while busy, and soon after the last."""
        tally, now = self._tally, self._clock()
        if now - tally.since_s < (SUMMARY_S if self._engine.trajectories else IDLE_SUMMARY_S):
            return
        self._tally = _Tally(now)
        if tally.steps:
            logger.info(
                "steps",
                extra={
                    "steps": tally.steps,
                    "rows_per_step": round(tally.rows / tally.steps, 2),
                    "most_rows": tally.most_rows,
                    "images": tally.images,
                    "seconds": round(now - tally.since_s, 1),
                },
            )
