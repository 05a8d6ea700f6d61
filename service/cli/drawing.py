"""Drawing without a server, through the same engine that serves; loads torch when asked to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.catalog import PipelineSpec
from model.checkpoints.fingerprint import pipeline_fingerprint
from service.api.pictures import Inputs
from service.imagefile.encoding import image_file
from service.imagefile.provenance import Drawn, Maker
from service.jobs import Job
from service.settings import Settings

if TYPE_CHECKING:
    from service.engine.engine import Engine, FinishedImage, StepOutput


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """One request and the pictures that it starts from."""

    job: Job
    inputs: Inputs


class Studio:
    """Draws orders here.

    Args:
        settings: of the device, the networks and the batch.
        specs: the pipelines that the orders name, by name.
    """

    def __init__(self, settings: Settings, specs: Mapping[str, PipelineSpec]) -> None:
        self._specs = specs
        self._engine, self._maker = _start(settings, list(specs.values()))

    def draw(
        self, orders: Sequence[Order], advance: Callable[[int], None]
    ) -> Iterator[tuple[Order, "FinishedImage"]]:
        """Denoises all orders together; gives each image as it is finished.

        Args:
            orders: whose jobs have different ids.
            advance: hears how many network steps were done.

        Raises:
            ModelError, JobError: an order failed.
        """
        engine, waiting = self._engine, iter(orders)
        by_id = {order.job.id: order for order in orders}
        while True:
            while engine.trajectories < 2 * engine.max_batch:
                order = next(waiting, None)
                if order is None:
                    break
                engine.add(order.job.id, order.job.params, pictures=order.inputs.pictures)
            if not engine.trajectories:
                return
            output = engine.step()
            _raise_first_failure(output)
            advance(output.trajectories)
            for image in output.images:
                yield by_id[image.job_id], image

    def file(self, order: Order, image: "FinishedImage") -> bytes:
        """An image as a file, with the record of its making."""
        job = order.job
        drawn = Drawn(
            job_id=None,
            params=job.params,
            index=image.index,
            seed=image.seed,
            output_format=job.output_format,
            pixels=image.pixels,
        )
        fingerprint = pipeline_fingerprint(self._specs[job.params.model])
        return image_file(drawn, self._maker, fingerprint, job.provenance)


def _start(settings: Settings, specs: Sequence[PipelineSpec]) -> tuple["Engine", Maker]:
    import torch

    from service.engine.engine import Engine
    from service.engine.maker import maker_of
    from service.engine.runner import ModelRunner

    if settings.worker.threads:
        torch.set_num_threads(settings.worker.threads)
    options, clip = settings.worker, settings.models.clip
    runner = ModelRunner.load(specs, options.device, options.dtype, clip=clip)
    return Engine(runner, options.max_batch), maker_of(runner.device, options.dtype)


def _raise_first_failure(output: "StepOutput") -> None:
    for _, error in output.failed:
        raise error
