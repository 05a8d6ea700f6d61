"""A bar that counts network steps, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


@contextmanager
def step_bar(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of `total` steps; the function it gives moves it on by some."""
    with _bar(console) as bar:
        task = bar.add_task("drawing", total=total)
        yield lambda steps: bar.advance(task, steps)


class ShowJob(Protocol):
    """Says how a job stands; numbers that are left out stay."""

    def __call__(self, description: str, step: int | None = None, total: int | None = None) -> None:
        """`step` of `total` network steps are done."""


@contextmanager
def job_bar(console: Console) -> Iterator[ShowJob]:
    """A bar of a job on a server."""
    with _bar(console) as bar:
        task = bar.add_task("submitting", total=None)

        def show(description: str, step: int | None = None, total: int | None = None) -> None:
            bar.update(task, description=description, completed=step, total=total)

        yield show
