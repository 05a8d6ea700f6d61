"""Guides train as stages do: they learn, resume exactly, and end beside the stage they guide."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from model.catalog import load_spec
from model.diffusion.schedule import noise_schedule
from model.guiding import Guides
from model.networks.classifier import ClassifierConfig
from model.networks.clip import LOGIT_SCALE, ClipConfig, ClipImageConfig, ClipTextConfig, NoisedClip
from model.networks.unet import UNetConfig
from model.params import GuideName
from model.scenes.lexicon import CORE
from model.scenes.sprites import Sprites
from model.text.bpe import ClipTokenizer
from model.text.tokenizer import load_tokenizer
from model.training.config import PRESETS, TrainingConfig, TrainingError, config_from_record
from model.training.export import export_guide, export_stage
from model.training.objectives import contrastive_loss, noised
from model.training.run import train
from model.training.trainer import Budget, Trainer
from model.training.vocabulary import tokenizer_for, with_vocabulary
from tests.model.training.runs import dataset, train_until
from tests.model.training.test_training import TINY

HALF = {"embedding": 32, "heads": 1, "head_channels": 32, "layers": 1}
CLIP = with_vocabulary(
    replace(
        TINY,
        objective="clip",
        batch=16,
        caption_dropout=0.0,
        clean_share=0.5,
        muon_lr=0.01,
        network=ClipConfig(
            text=ClipTextConfig(vocabulary=0, context=77, **HALF),
            image=ClipImageConfig(image_size=64, patch=16, timesteps=1000, **HALF),
        ),
    )
)
CLASSIFIER = with_vocabulary(
    replace(
        TINY,
        objective="classifier",
        batch=8,
        caption_dropout=0.0,
        clean_share=0.5,
        network=ClassifierConfig(
            trunk=UNetConfig(
                out_channels=0,
                model_channels=32,
                channel_mult=(1,),
                residual_blocks=1,
                attention_factors=(),
                head_channels=32,
                patch=8,
            ),
            image_size=64,
            pool="spatial",
        ),
    )
)
CPU = torch.device("cpu")
both = pytest.mark.parametrize("config", [CLIP, CLASSIFIER], ids=["clip", "classifier"])


@both
def test_a_resumed_run_equals_an_unbroken_one(
    config: TrainingConfig, sprites: Sprites, tmp_path: Path
) -> None:
    whole = Trainer(config, CPU)
    train_until(whole, 4, sprites, tmp_path / "whole.pt")
    train_until(Trainer(config, CPU), 2, sprites, tmp_path / "part.pt")
    resumed = Trainer.resume(tmp_path / "part.pt", CPU)
    assert resumed.config == config
    train_until(resumed, 4, sprites, tmp_path / "part.pt")
    for key, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[key], value), key
        assert torch.equal(resumed.ema[key], whole.ema[key]), key


@both
def test_the_loss_falls(config: TrainingConfig, sprites: Sprites, tmp_path: Path) -> None:
    reports = train_until(Trainer(config, CPU), 40, sprites, tmp_path / "state.pt")
    losses = [report.loss for report in reports]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_each_picture_finds_its_caption_and_each_caption_its_picture() -> None:
    torch.manual_seed(0)
    images, captions = (F.normalize(torch.randn(6, 8), dim=1) for _ in range(2))
    logits = LOGIT_SCALE * images @ captions.T
    rows, columns = logits.log_softmax(dim=1).diag(), logits.log_softmax(dim=0).diag()
    found = contrastive_loss(images, captions, torch.arange(6)[:, None])
    torch.testing.assert_close(found, -(rows + columns).mean() / 2)


def test_the_same_caption_is_no_negative() -> None:
    images = torch.eye(4)
    captions = images[[0, 0, 2, 3]]  # the first two say the same
    apart = torch.tensor([[1, 2], [1, 3], [4, 5], [6, 7]])
    same = torch.tensor([[1, 2], [1, 2], [4, 5], [6, 7]])
    images = images.clone()
    images[1] = images[0]
    assert float(contrastive_loss(images, captions, same)) == pytest.approx(0.0, abs=1e-6)
    assert float(contrastive_loss(images, captions, apart)) > 0.3


def test_a_share_of_pictures_stays_clean() -> None:
    torch.manual_seed(0)
    config = replace(CLIP, clean_share=0.25, high_noise_share=0.25)
    x_t, t = noised(config, noise_schedule("cosine", 1000), torch.ones(4000, 3, 1, 1))
    assert 0.22 < (t == 0).float().mean().item() < 0.28
    assert 0.23 < (t >= 900).float().mean().item() < 0.31
    torch.testing.assert_close(x_t[t == 0], torch.ones_like(x_t[t == 0]), rtol=0, atol=0.05)
    assert x_t[t > 900].mean().abs().item() < 0.2


def test_labels_are_the_backgrounds(sprites: Sprites) -> None:
    pictures = dataset(CLASSIFIER, sprites)
    labels = {int(pictures[number].label) for number in range(80)}
    assert labels == set(range(len(CORE.backgrounds)))


def test_export_puts_guides_beside_their_stage(sprites: Sprites, tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    export_stage(Trainer(TINY, CPU), folder)
    clip, classifier = Trainer(CLIP, CPU), Trainer(CLASSIFIER, CPU)
    export_guide(clip, folder)
    spec = export_guide(classifier, folder)
    assert load_spec(folder) == export_guide(clip, folder) == spec
    assert [guide.kind for guide in spec.guides] == ["classifier", "clip"]
    assert spec.classes == len(CORE.backgrounds)
    guides = Guides.load(spec, load_tokenizer(spec), CPU, torch.float32)
    assert set(guides.for_steps) == set(GuideName)
    reader = tokenizer_for(CLIP)
    assert isinstance(reader, ClipTokenizer)
    assert isinstance(clip.network, NoisedClip)
    clip.network.load_state_dict({key: value.half() for key, value in clip.ema.items()})
    for words in ("a cat on the grass", "a dog on the grass", ""):
        ids, length = reader.encode(words)
        with torch.no_grad():
            expected = clip.network.encode_text(torch.tensor([ids]), torch.tensor([length]))[0]
        torch.testing.assert_close(guides.caption(words), expected)
    assert not torch.equal(guides.caption("a cat"), guides.caption("a dog"))


def test_a_guide_needs_a_stage_of_its_process(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="export its base stage first"):
        export_guide(Trainer(CLIP, CPU), tmp_path)
    export_stage(Trainer(replace(TINY, schedule="linear"), CPU), tmp_path)
    with pytest.raises(TrainingError, match=r"linear.*cosine"):
        export_guide(Trainer(CLIP, CPU), tmp_path)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"objective": "denoising"}, "embedding"),
        ({"objective": "guessing"}, "no objective 'guessing'"),
        ({"stage": "upsample"}, "leads the base stage"),
        ({"crop": 32}, "whole pictures"),
        ({"caption_dropout": 0.1}, "caption_dropout = 0"),
        ({"clean_share": 0.9}, "more than everything"),
        ({"timesteps": 500}, "not 500 timesteps"),
        ({"resolution": 32, "crop": 32}, "32 px"),
    ],
)
def test_a_wrong_configuration_is_refused(wrong: dict[str, object], why: str) -> None:
    record = tomllib.loads((PRESETS / "scenes-clip-cpu.toml").read_text())
    with pytest.raises((KeyError, TypeError, ValueError), match=why):
        config_from_record({**record, **wrong})


def test_a_wrong_file_is_a_training_error(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    text = (PRESETS / "scenes-classifier-cpu.toml").read_text()
    path.write_text(text.replace("image_size = 64", "image_size = 32"))
    with pytest.raises(TrainingError, match="64 px"):
        train(str(path), state=tmp_path / "s.pt", budget=Budget(iterations=1), report=print)
