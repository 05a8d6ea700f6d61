"""`train`: from a preset and a state file to a running trainer; what `glide train` calls."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from model.scenes.captions import words
from model.scenes.sprites import Sprites, draw_sprites, load_sprites
from model.text.tokenizer import CaptionTokenizer, word_tokenizer
from model.training.config import TrainingConfig, load_config
from model.training.data import VOCABULARIES, SceneDataset, batches
from model.training.export import export_stage
from model.training.trainer import Budget, Report, Trainer, run


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
    """Trains one stage on the built-in scenes, going on from `state` when it exists.

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
        trainer = Trainer(_with_vocabulary(load_config(config)), torch.device(device))
    settings = trainer.config
    assert settings.network.text is not None
    vocabulary = VOCABULARIES[settings.vocabulary]
    glyphs: Sprites = load_sprites(sprites) if sprites else draw_sprites(vocabulary)
    tokenizer = CaptionTokenizer(word_tokenizer(words(vocabulary)), settings.network.text.context)
    dataset = SceneDataset(settings, glyphs, tokenizer)
    pictures = batches(dataset, settings.batch, trainer.pictures, workers)
    run(trainer, pictures, budget, state, report)
    if export is not None:
        export_stage(trainer, export)
    return trainer


def _with_vocabulary(config: TrainingConfig) -> TrainingConfig:
    """Fills in the size of the text vocabulary, which is the data set's."""
    assert config.network.text is not None
    size = len(words(VOCABULARIES[config.vocabulary])) + 2  # and padding and unknown
    text = replace(config.network.text, vocabulary=size)
    return replace(config, network=replace(config.network, text=text))
