"""Short runs in this process."""

from pathlib import Path

from model.scenes.sprites import Sprites
from model.training.config import TrainingConfig
from model.training.data import SceneDataset, batches
from model.training.trainer import Budget, Report, Trainer, run
from model.training.vocabulary import tokenizer_for


def dataset(config: TrainingConfig, sprites: Sprites) -> SceneDataset:
    return SceneDataset(config, sprites, tokenizer_for(config))


def train_until(
    trainer: Trainer, iterations: int, sprites: Sprites, state: Path, save_every_s: float = 1e9
) -> list[Report]:
    reports: list[Report] = []
    pictures = batches(
        dataset(trainer.config, sprites), trainer.config.batch, trainer.pictures, workers=0
    )
    budget = Budget(iterations=iterations, save_every_s=save_every_s)
    run(trainer, pictures, budget, state, reports.append)
    return reports
