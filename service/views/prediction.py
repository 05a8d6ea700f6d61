"""What a job looks like to a client of Replicate's API. Knows neither Redis nor routes. Pure.

The same object is sent over HTTP and in webhooks. Its statuses are the five that every client of
that API knows: `queued` is `starting`, `running` is `processing`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

from model.params import Task
from service.jobs import Job, JobStatus
from service.views.links import Links

OWNER = "glide"
"""Owner of every pipeline that has no owner in its own name."""
HIDDEN_VERSION = "hidden"
"""Stands for the version of a model where none is known, as that API has it."""
_STATUSES: Mapping[JobStatus, str] = {
    JobStatus.QUEUED: "starting",
    JobStatus.RUNNING: "processing",
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELED: "canceled",
}
_BAR_CHARACTERS = 10


def prediction(job: Job, links: Links, *, version: str = HIDDEN_VERSION) -> dict[str, Any]:
    """A job as a prediction, ready for JSON.

    Args:
        job: the record; `echo` has `model`, `version`, `deployment` and `input` of a job that came
            as a prediction.
        links: makes the URLs.
        version: of the model, for a job that came by another door.
    """
    echo = job.echo if job.api == "replicate" and job.echo else {}
    return {
        "id": job.id,
        "model": echo.get("model") or model_name(job.params.model),
        "version": echo.get("version") or version,
        "input": _pictures(job) | (echo["input"] if "input" in echo else _input(job)),
        "logs": _logs(job),
        "output": _output(job, links),
        "data_removed": False,
        "error": job.failure.detail if job.failure else None,
        "source": "api",
        "status": _STATUSES[job.status],
        "created_at": time_text(job.created_at_ms),
        "started_at": _time_if(job.started_at_ms),
        "completed_at": _time_if(job.finished_at_ms),
        "deadline": _time_if(job.deadline_at_ms),
        "deployment": echo.get("deployment"),
        "metrics": _metrics(job),
        "urls": {
            "get": links.to(prediction_path(job.id)),
            "cancel": links.to(f"{prediction_path(job.id)}/cancel"),
            "stream": links.signed(stream_path(job.id), job),
            "web": links.job(job.id),
        },
    }


def model_name(pipeline: str) -> str:
    """`owner/name` of a pipeline: `glide/scenes` of `scenes`."""
    return pipeline if pipeline.count("/") == 1 else f"{OWNER}/{pipeline}"


def prediction_path(job_id: str) -> str:
    """Where a prediction is found on its server."""
    return f"/replicate/v1/predictions/{job_id}"


def stream_path(job_id: str) -> str:
    """Where a prediction is followed, for whoever has a signed link to it.

    Replicate's JavaScript client takes the outputs of a stream for files only below `/v1/files/`.
    """
    return f"/v1/files/{job_id}/stream"


def progress_line(step: int, total_steps: int, elapsed_s: float | None = None) -> str:
    """How far a job is, as `tqdm` writes it: what clients of that API parse.

    Args:
        step: network steps done.
        total_steps: of the whole job, at least 1.
        elapsed_s: time since the first step; None where it isn't known.
    """
    done = min(step / total_steps, 1.0)
    bar = "#" * int(done * _BAR_CHARACTERS)
    times = "00:00<?, ?it/s"
    if elapsed_s is not None and elapsed_s > 0 and step:
        left_s = elapsed_s / step * (total_steps - step)
        times = f"{_clock(elapsed_s)}<{_clock(left_s)}, {step / elapsed_s:5.2f}it/s"
    return f"{int(done * 100):3d}%|{bar:<{_BAR_CHARACTERS}}| {step}/{total_steps} [{times}]\n"


def _input(job: Job) -> dict[str, Any]:
    """A request of another door in the words of this one; only what a client could send again."""
    params = job.params
    found: dict[str, Any] = {
        "prompt": params.prompt,
        "negative_prompt": params.negative_prompt,
        "width": params.width,
        "height": params.height,
        "num_outputs": params.n,
        "num_inference_steps": params.steps,
        "guidance_scale": params.guidance_scale,
        "scheduler": params.sampler.value,
        "seed": params.seed,
        "output_format": job.output_format,
    }
    if params.task is Task.VARIATION:
        found["prompt_strength"] = params.strength
    return found


def _pictures(job: Job) -> dict[str, str]:
    """The pictures by the ids of their uploads, for inputs that don't name them otherwise."""
    pictures = {"image": job.params.image, "mask": job.params.mask}
    return {name: digest for name, digest in pictures.items() if digest}


def _output(job: Job, links: Links) -> list[str] | None:
    """URLs of the images; while more may come only those without a gap before them.

    A client that follows a prediction counts what it has seen, so that no image may slip in before.
    """
    images = list(job.images)
    if not job.status.is_final:
        counted = takewhile(lambda pair: pair[0] == pair[1].index, enumerate(images))
        images = [image for _, image in counted]
    return [links.image(job, image) for image in images] or None


def _logs(job: Job) -> str:
    lines = [f"{warning}\n" for warning in job.warnings]
    if job.total_steps and job.started_at_ms is not None:
        succeeded = job.status is JobStatus.SUCCEEDED
        step = job.total_steps if succeeded else job.step
        lines.append(progress_line(step, job.total_steps, _run_s(job)))
    if job.cancel_reason:
        lines.append(f"Canceled: {job.cancel_reason}\n")
    return "".join(lines)


def _metrics(job: Job) -> dict[str, float]:
    """Where the time went, s; only what is known."""
    metrics: dict[str, float] = {}
    run_s = _run_s(job)
    if run_s is not None:
        metrics["predict_time"] = run_s
    if job.finished_at_ms is not None:
        metrics["total_time"] = (job.finished_at_ms - job.created_at_ms) / 1000
        metrics["image_count"] = len(job.images)
    return metrics


def _run_s(job: Job) -> float | None:
    if job.started_at_ms is None or job.finished_at_ms is None:
        return None
    return (job.finished_at_ms - job.started_at_ms) / 1000


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:02d}:{rest:02d}"


def time_text(time_ms: int) -> str:
    """A Unix time, ms, in that API's form: RFC 3339 in UTC, to the microsecond."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _time_if(time_ms: int | None) -> str | None:
    return None if time_ms is None else time_text(time_ms)
