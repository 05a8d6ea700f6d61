"""`glide train`: one stage of the cascade on the built-in scenes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from service.cli.serving import Threads

if TYPE_CHECKING:
    from model.training.trainer import Report

LINE_EVERY = 50


def train(  # noqa: PLR0913 - every parameter is an option
    config: Annotated[str, typer.Argument(help="A preset's name, or a TOML file.")],
    state: Annotated[
        Path | None, typer.Option(help="The training state; default: runs/<preset>.pt.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop, with the state saved, after this long.")
    ] = None,
    cooldown_minutes: Annotated[
        float, typer.Option(min=0, help="Let the learning rates fall to 0 over the last minutes.")
    ] = 0.0,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Stop at this iteration of the whole run.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Pipeline folder to write the averaged weights to.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ….")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that draw pictures.")] = 1,
    sprites: Annotated[
        Path | None, typer.Option(help="A sprite cache, on a machine without the font.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Train a network; a run that was stopped goes on where it was."""
    import torch

    from model.training.run import train as run
    from model.training.trainer import Budget
    from service.engine.runner import pick_device

    if threads:
        torch.set_num_threads(threads)
    seconds = None if max_minutes is None else 60 * max_minutes
    budget = Budget(seconds=seconds, cooldown_s=60 * cooldown_minutes, iterations=iterations)
    state = state or Path("runs") / f"{Path(config).stem}.pt"
    with _progress(Console(stderr=True), seconds, iterations) as report:
        trainer = run(
            config,
            state=state,
            budget=budget,
            report=report,
            device=str(pick_device(device)),
            workers=workers,
            sprites=sprites,
            export=export,
        )
    where = f", exported to {export}" if export else ""
    typer.echo(f"{trainer.pictures} pictures seen; state in {state}{where}")


@contextmanager
def _progress(
    console: Console, seconds: float | None, iterations: int | None
) -> Iterator[Callable[["Report"], None]]:
    """A bar on a terminal, else a line now and then."""
    if not console.is_terminal:
        yield lambda each: _line(console, each)
        return
    columns = (
        TextColumn("iteration {task.fields[iteration]}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.4f}, {task.fields[pace]:.1f} pictures/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        total = iterations if seconds is None else seconds
        task = progress.add_task("", total=total, iteration=0, loss=0.0, pace=0.0)

        def show(each: "Report") -> None:
            elapsed = progress.tasks[0].elapsed or 0.0
            progress.update(
                task,
                completed=each.iteration if seconds is None else elapsed,
                iteration=each.iteration,
                loss=each.loss,
                pace=each.pictures_per_second,
            )

        yield show


def _line(console: Console, each: "Report") -> None:
    if each.iteration % LINE_EVERY == 0:
        console.print(
            f"iteration {each.iteration}, {each.pictures} pictures, loss {each.loss:.4f}, "
            f"{each.pictures_per_second:.1f} pictures/s",
            highlight=False,
        )
