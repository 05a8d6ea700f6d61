"""A run resumes exactly, stops cleanly, learns, and ends in a pipeline that loads."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.catalog import load_spec
from model.checkpoints.native import load_stage
from model.networks.unet import UNetConfig
from model.scenes.captions import words
from model.scenes.lexicon import CORE
from model.scenes.sprites import Sprites
from model.text.encoder import TextConfig
from model.training.config import PRESETS, TrainingConfig, TrainingError, load_config
from model.training.data import batches, random_mask
from model.training.export import export_stage
from model.training.objectives import draw_timesteps
from model.training.optimizer import orthogonalized
from model.training.run import train
from model.training.trainer import Budget, Report, Trainer, run
from tests.model.training.runs import dataset, train_until

NETWORK = UNetConfig(
    out_channels=3,
    model_channels=32,
    channel_mult=(1, 1),
    residual_blocks=1,
    attention_factors=(2,),
    head_channels=32,
    dropout=0.1,
    inpainting=True,
    patch=8,
    text=TextConfig(
        vocabulary=len(words(CORE)) + 2, context=16, width=32, layers=1, heads=1, pooling="mean"
    ),
)
TINY = TrainingConfig(
    stage="base",
    vocabulary="core",
    resolution=64,
    crop=64,
    batch=4,
    warmup=2,
    network=NETWORK,
)
TINY_UPSAMPLE = replace(
    TINY,
    stage="upsample",
    resolution=256,
    crop=64,
    low_res_noise=0.1,
    network=replace(NETWORK, low_res=True, residual_low_res=True),
)


@pytest.mark.parametrize("config", [TINY, TINY_UPSAMPLE], ids=["base", "upsample"])
def test_a_resumed_run_equals_an_unbroken_one(
    config: TrainingConfig, sprites: Sprites, tmp_path: Path
) -> None:
    device = torch.device("cpu")
    whole = Trainer(config, device)
    train_until(whole, 6, sprites, tmp_path / "whole.pt")
    train_until(Trainer(config, device), 3, sprites, tmp_path / "part.pt")
    resumed = Trainer.resume(tmp_path / "part.pt", device)
    assert resumed.iteration == 3
    train_until(resumed, 6, sprites, tmp_path / "part.pt")
    for key, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[key], value), key
        assert torch.equal(resumed.ema[key], whole.ema[key]), key


def test_the_loss_falls(sprites: Sprites, tmp_path: Path) -> None:
    reports = train_until(Trainer(TINY, torch.device("cpu")), 60, sprites, tmp_path / "state.pt")
    losses = [report.loss for report in reports]
    assert sum(losses[-15:]) < 0.8 * sum(losses[:15])
    lines = (tmp_path / "state.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == list(range(1, 61))


def test_sigterm_saves_and_stops(sprites: Sprites, tmp_path: Path) -> None:
    trainer = Trainer(TINY, torch.device("cpu"))
    pictures = batches(dataset(TINY, sprites), TINY.batch, 0, workers=0)

    def interrupt(report: Report) -> None:
        if report.iteration == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    run(trainer, pictures, Budget(iterations=50), tmp_path / "state.pt", interrupt)
    assert Trainer.resume(tmp_path / "state.pt", torch.device("cpu")).iteration == 2


def test_the_cooldown_is_not_saved(sprites: Sprites, tmp_path: Path) -> None:
    """The state to go on from is the one before the learning rate fell."""
    trainer = Trainer(TINY, torch.device("cpu"))
    pictures = batches(dataset(TINY, sprites), TINY.batch, 0, workers=0)
    seconds = iter(range(10_000))
    budget = Budget(seconds=40, cooldown_s=20)
    run(trainer, pictures, budget, tmp_path / "s.pt", lambda _: None, lambda: float(next(seconds)))
    saved = Trainer.resume(tmp_path / "s.pt", torch.device("cpu"))
    rates = [json.loads(line)["rate"] for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert rates[0] == 1.0
    assert 0 < rates[-1] < 0.2
    assert saved.iteration == sum(rate == 1.0 for rate in rates)
    assert trainer.iteration == len(rates)


def test_export_makes_a_pipeline_that_loads(sprites: Sprites, tmp_path: Path) -> None:
    device = torch.device("cpu")
    folder = tmp_path / "scenes"
    base, upsample = Trainer(TINY, device), Trainer(TINY_UPSAMPLE, device)
    train_until(upsample, 1, sprites, tmp_path / "u.pt")
    train_until(base, 1, sprites, tmp_path / "b.pt")
    export_stage(upsample, folder)
    spec = export_stage(base, folder)
    assert spec.sizes == (64, 256)
    assert load_spec(folder) == spec
    for stage, trainer in zip(spec.stages, (base, upsample), strict=True):
        network = load_stage(spec, stage)
        assert network.config == trainer.config.network
        for key, value in network.state_dict().items():
            assert torch.equal(value, trainer.ema[key].half().float()), key


def test_a_picture_depends_on_its_number_alone(sprites: Sprites) -> None:
    pictures = dataset(TINY_UPSAMPLE, sprites)
    first, again = pictures[17], pictures[17]
    assert torch.equal(first.x0, again.x0)
    assert first.low_res is not None
    assert again.low_res is not None
    assert torch.equal(first.low_res, again.low_res)
    assert first.x0.shape == (1, 3, 64, 64)
    assert first.low_res.shape == (1, 3, 16, 16)
    assert not torch.equal(first.x0, pictures[18].x0)


def test_some_captions_are_dropped_and_some_pixels_known(sprites: Sprites) -> None:
    items = [dataset(TINY, sprites)[index] for index in range(120)]
    unconditional = sum(not bool(item.token_mask.any()) for item in items)
    masked = sum(bool(item.known.any()) for item in items)
    assert 2 <= unconditional <= 30
    assert 35 <= masked <= 85


def test_the_noisiest_tenth_gets_its_share_of_the_timesteps() -> None:
    torch.manual_seed(0)
    t = draw_timesteps(replace(TINY, high_noise_share=0.5), torch.zeros(4000, 1))
    noisiest = (t >= 900).float().mean().item()
    assert 0.50 < noisiest < 0.60  # its own half, and a tenth of the other
    assert int(t.min()) < 10
    assert int(t.max()) == 999


def test_masks_are_neither_empty_nor_full() -> None:
    rng = np.random.default_rng(1)
    shares = [float(random_mask(64, rng).mean()) for _ in range(100)]
    assert min(shares) > 0.02
    assert max(shares) < 0.98


def test_orthogonalized_singular_values_are_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((48, 200), (200, 48)):
        values = torch.linalg.svdvals(orthogonalized(torch.randn(shape)))
        assert float(values.min()) > 0.5
        assert float(values.max()) < 1.3


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.toml")))
def test_every_preset_is_readable(preset: str) -> None:
    config = load_config(preset)
    if isinstance(config.network, UNetConfig):
        assert config.network.text is not None
    assert config.crop <= config.resolution


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stage = ", "is not a training configuration"),
        ('stage = "base"', "is not a training configuration"),
        ("", "is not a training configuration"),
    ],
)
def test_bad_configurations_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=message):
        load_config(str(path))


def test_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(TrainingError, match="scenes-base-cpu"):
        load_config("nonsense")


def test_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"not a state")
    with pytest.raises(TrainingError, match="is not a training state"):
        train(
            "scenes-base-cpu",
            state=tmp_path / "state.pt",
            budget=Budget(iterations=1),
            report=lambda _: None,
        )
