"""`glide train`: train a network from a configuration file."""

import importlib
from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="A training configuration, TOML.")],
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop, with a checkpoint, after this long.")
    ] = None,
) -> None:
    """Train a network; a run that was stopped goes on where it was."""
    trainer = importlib.import_module("model.training.trainer")
    trainer.train(config, max_minutes=max_minutes)
