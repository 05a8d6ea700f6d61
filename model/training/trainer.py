"""Trainer: iterate, log, checkpoint, resume exactly. Knows no pipeline and no service.

An iteration depends only on the state before it and on its number: its pictures, noise, timesteps
and dropout are drawn from (seed, iteration). So a resumed run ends in the weights of an unbroken
one.
"""

import json
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from model.checkpoints.architectures import build_network
from model.networks.averaging import average_in
from model.training.config import (
    TrainingConfig,
    TrainingError,
    config_from_record,
    config_to_record,
)
from model.training.data import Batch
from model.training.objectives import build_objective
from model.training.optimizer import build_optimizers

FORMAT = "glide-service/training/1"
_UNREADABLE = (
    OSError,
    RuntimeError,
    KeyError,
    TypeError,
    ValueError,
    EOFError,
    pickle.UnpicklingError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One iteration: its number, the pictures seen so far, its loss, and the pace."""

    iteration: int
    pictures: int
    loss: float
    gradient_norm: float
    pictures_per_second: float


class Trainer:
    """A network in training.

    Args:
        config: with the size of the text vocabulary filled in.
        device: where to train; on CUDA the network runs in bfloat16 under autocast.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.iteration = 0
        torch.manual_seed(config.seed)
        self.network = build_network(config.network).to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = {key: value.clone() for key, value in self.network.state_dict().items()}
        self.optimizers = build_optimizers(self.network, config)
        self.objective = build_objective(config, self.network)
        self._rates = [
            [group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers
        ]

    @property
    def pictures(self) -> int:
        """Pictures seen so far; the number of the next one."""
        return self.iteration * self.config.batch

    def iterate(self, batch: Batch, rate: float = 1.0) -> tuple[float, float]:
        """One update of the weights.

        Args:
            batch: the pictures of this iteration.
            rate: factor of the learning rates, on top of the warm-up.

        Returns:
            The loss and the norm of the gradient before clipping.

        Raises:
            TrainingError: the loss is not finite.
        """
        self.network.train()
        torch.manual_seed((self.config.seed << 32) + self.iteration)
        loss = self.objective.loss(batch.to(self.device))
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss of iteration {self.iteration} is {loss.item()}")
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self._set_rate(rate * min(1.0, (self.iteration + 1) / self.config.warmup))
        for optimizer in self.optimizers:
            optimizer.step()
        self.iteration += 1
        self._average()
        return loss.item(), norm.item()

    def _set_rate(self, factor: float) -> None:
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def _average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.iteration) / (10 + self.iteration))
        average_in(self.ema, self.network.state_dict(), decay)

    def save(self, path: Path) -> None:
        """Writes everything that the next iteration depends on; atomically."""
        state = {
            "format": FORMAT,
            "config": config_to_record(self.config),
            "iteration": self.iteration,
            "network": self.network.state_dict(),
            "ema": self.ema,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        torch.save(state, unfinished)
        os.replace(unfinished, path)

    @classmethod
    def resume(cls, path: Path, device: torch.device) -> "Trainer":
        """A trainer in the state that `save` wrote.

        Raises:
            TrainingError: the file is damaged or of another format.
        """
        try:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
            if state["format"] != FORMAT:
                raise TrainingError(f"{path} has the format {state['format']}, expected {FORMAT}")
            trainer = cls(config_from_record(state["config"]), device)
            trainer.network.load_state_dict(state["network"])
            trainer.ema = state["ema"]
            for optimizer, saved in zip(trainer.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            trainer.iteration = state["iteration"]
        except _UNREADABLE as error:
            raise TrainingError(f"{path} is not a training state") from error
        return trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long to train.

    Attributes:
        seconds: of this call; None without end.
        cooldown_s: at the end the learning rates fall linearly to 0 for so long. The weights so
            reached are for shipping; the saved state is the one before, so that a run can go on.
        iterations: stop at this iteration; None without end.
        save_every_s: time between saved states.
    """

    seconds: float | None = None
    cooldown_s: float = 0.0
    iterations: int | None = None
    save_every_s: float = 300.0

    def rate(self, elapsed_s: float) -> float:
        """Factor of the learning rates after so many seconds."""
        if self.seconds is None or self.cooldown_s == 0:
            return 1.0
        return min(1.0, max(0.0, (self.seconds - elapsed_s) / self.cooldown_s))

    def is_over(self, elapsed_s: float, iteration: int) -> bool:
        """Whether to stop before this iteration."""
        late = self.seconds is not None and elapsed_s >= self.seconds
        return late or (self.iterations is not None and iteration >= self.iterations)


def run(
    trainer: Trainer,
    pictures: Iterator[Batch],
    budget: Budget,
    state: Path,
    report: Callable[[Report], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Trains until the budget is spent or SIGTERM or SIGINT arrives; the state is saved either way.

    Args:
        trainer: fresh or resumed.
        pictures: batches from picture `trainer.pictures` on.
        budget: when to save and to stop.
        state: file of the training state; beside it, `.jsonl`, goes one line per iteration.
        report: called after every iteration.
        clock: seconds.
    """
    start = saved = clock()
    with _stop_signals() as stopped, state.with_suffix(".jsonl").open("a") as log:
        while not stopped and not budget.is_over(clock() - start, trainer.iteration):
            began = clock()
            rate = budget.rate(began - start)
            cooling = rate < 1.0
            if not cooling and began - saved >= budget.save_every_s:
                trainer.save(state)
                saved = began
            elif cooling and saved < float("inf"):
                trainer.save(state)
                saved = float("inf")  # the state before the cooldown is the one to go on from
            loss, norm = trainer.iterate(next(pictures), rate)
            pace = trainer.config.batch / max(clock() - began, 1e-9)
            record = Report(
                iteration=trainer.iteration,
                pictures=trainer.pictures,
                loss=loss,
                gradient_norm=norm,
                pictures_per_second=pace,
            )
            line = {name: getattr(record, name) for name in Report.__slots__}
            log.write(json.dumps({"time": time.time(), "rate": rate, **line}) + "\n")
            log.flush()
            report(record)
    if saved < float("inf"):
        trainer.save(state)


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT instead of dying of them."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
