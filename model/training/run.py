"""`train`: from a preset and a state file to a running trainer; what `glide train` calls."""

from collections.abc import Callable
from pathlib import Path

import torch

from model.scenes.sprites import Sprites, draw_sprites, load_sprites
from model.training.config import load_config
from model.training.data import SceneDataset, batches
from model.training.export import export_network
from model.training.trainer import Budget, Report, Trainer, run
from model.training.vocabulary import VOCABULARIES, tokenizer_for, with_vocabulary


def train(
    config: str,
    *,
    state: Path,
    budget: Budget,
    report: Callable[[Report], None],
    device: str = "cpu",
    workers: int = 1,
    sprites: Path | None = None,
    export: Path | None = None,
) -> Trainer:
    """Trains a stage or a guide on the built-in scenes, going on from `state` when it exists.

    Args:
        config: a preset's name or a TOML file; a resumed run keeps the settings in its state.
        state: file of the training state.
        budget: when to save and to stop.
        report: called after every iteration.
        device: `cpu`, `cuda`, ….
        workers: processes that draw pictures.
        sprites: a sprite cache, for machines without the font.
        export: pipeline folder to write the averaged weights to in the end.

    Raises:
        TrainingError, SpriteError: see there.
    """
    if state.exists():
        trainer = Trainer.resume(state, torch.device(device))
    else:
        state.parent.mkdir(parents=True, exist_ok=True)
        trainer = Trainer(with_vocabulary(load_config(config)), torch.device(device))
    settings = trainer.config
    vocabulary = VOCABULARIES[settings.vocabulary]
    glyphs: Sprites = load_sprites(sprites) if sprites else draw_sprites(vocabulary)
    dataset = SceneDataset(settings, glyphs, tokenizer_for(settings))
    pictures = batches(dataset, settings.batch, trainer.pictures, workers)
    run(trainer, pictures, budget, state, report)
    if export is not None:
        export_network(trainer, export)
    return trainer
