"""Jobs as predictions: the words that clients of Replicate's API know."""

import re
from dataclasses import replace

import pytest

from model.params import SamplingParams, Task
from service.jobs import ImageRecord, Job, JobFailure, JobStatus
from service.views.links import Links, LinkSigner
from service.views.prediction import prediction, progress_line

LINKS = Links("https://images.example", LinkSigner(b"key"))
JOB = Job(
    id="job_01j00000000000000000000000",
    status=JobStatus.RUNNING,
    params=SamplingParams(prompt="a fox", model="scenes", n=3, seed=7),
    created_at_ms=1_763_840_400_123,
    started_at_ms=1_763_840_400_300,
    step=3,
    total_steps=25,
)
CLIENT_PATTERN = re.compile(r"^\s*(\d+)%\s*\|.+?\|\s*(\d+)/(\d+)")


def image(index: int) -> ImageRecord:
    return ImageRecord(
        index=index,
        key=f"{JOB.id}/{index}.1.png",
        content_type="image/png",
        image_bytes=3,
        sha256="0" * 64,
        width=64,
        height=64,
        seed=7 + index,
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (JobStatus.QUEUED, "starting"),
        (JobStatus.RUNNING, "processing"),
        (JobStatus.SUCCEEDED, "succeeded"),
        (JobStatus.FAILED, "failed"),
        (JobStatus.CANCELED, "canceled"),
    ],
)
def test_only_statuses_that_every_client_knows_are_sent(ours: JobStatus, theirs: str) -> None:
    assert prediction(replace(JOB, status=ours), LINKS)["status"] == theirs


def test_a_running_prediction_reports_its_progress_in_the_logs() -> None:
    seen = prediction(JOB, LINKS)
    (line,) = seen["logs"].splitlines()
    found = CLIENT_PATTERN.match(line)
    assert found
    assert found.groups() == ("12", "3", "25")
    assert (seen["output"], seen["error"], seen["completed_at"]) == (None, None, None)
    assert seen["created_at"] == "2025-11-22T19:40:00.123000Z"
    assert seen["metrics"] == {}


def test_a_finished_prediction_says_what_it_took() -> None:
    ended = replace(
        JOB,
        status=JobStatus.SUCCEEDED,
        finished_at_ms=JOB.created_at_ms + 4677,
        images=(image(0), image(1), image(2)),
    )
    seen = prediction(ended, LINKS)
    assert seen["metrics"] == {"predict_time": 4.5, "total_time": 4.677, "image_count": 3}
    assert seen["logs"] == "100%|##########| 25/25 [00:04<00:00,  5.56it/s]\n"
    assert [url.partition("?")[0] for url in seen["output"]] == [
        f"https://images.example/v1/files/{JOB.id}/{index}.png" for index in range(3)
    ]


def test_an_image_is_shown_only_after_those_before_it() -> None:
    """A client counts the outputs that it has seen."""
    gap = replace(JOB, images=(image(0), image(2)))
    assert len(prediction(gap, LINKS)["output"]) == 1
    stopped = replace(gap, status=JobStatus.CANCELED, cancel_reason="the deadline passed")
    seen = prediction(stopped, LINKS)
    assert len(seen["output"]) == 2
    assert seen["logs"].endswith("Canceled: the deadline passed\n")


def test_a_failure_is_told_in_a_sentence() -> None:
    failure = JobFailure(code="out_of_memory", detail="no room", retryable=True)
    failed = prediction(replace(JOB, status=JobStatus.FAILED, failure=failure), LINKS)
    assert (failed["error"], failed["output"]) == ("no room", None)


def test_the_request_comes_back_as_it_was_sent() -> None:
    echo = {"model": "acme/fox", "version": "a" * 64, "deployment": None, "input": {"prompt": "x"}}
    seen = prediction(replace(JOB, api="replicate", echo=echo), LINKS)
    assert (seen["model"], seen["version"], seen["input"]) == ("acme/fox", "a" * 64, echo["input"])


def test_a_job_of_another_door_is_told_in_this_doors_words() -> None:
    params = replace(JOB.params, task=Task.VARIATION, image="b" * 64, strength=0.5)
    seen = prediction(replace(JOB, params=params), LINKS, version="c" * 64)
    assert (seen["model"], seen["version"]) == ("glide/scenes", "c" * 64)
    assert seen["input"]["num_outputs"] == 3
    assert (seen["input"]["prompt_strength"], seen["input"]["image"]) == (0.5, "b" * 64)
    assert "mask" not in seen["input"]


def test_every_url_is_absolute_and_the_stream_needs_no_key() -> None:
    urls = prediction(JOB, LINKS)["urls"]
    assert all(url.startswith("https://images.example/") for url in urls.values())
    assert urls["cancel"] == urls["get"] + "/cancel"
    assert "signature=" in urls["stream"]


def test_a_rate_is_told_where_the_time_is_known() -> None:
    assert progress_line(3, 25, 0.5) == " 12%|#         | 3/25 [00:00<00:04,  6.00it/s]\n"
    assert progress_line(0, 25) == "  0%|          | 0/25 [00:00<?, ?it/s]\n"
