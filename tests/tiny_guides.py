"""Tiny networks with random weights: guides for the tiny pipeline, and one that draws classes."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from model.catalog import GuideSpec, PipelineSpec, StageSpec, save_spec
from model.checkpoints.native import save_weights
from model.networks.classifier import ClassifierConfig, NoisedClassifier
from model.networks.clip import ClipConfig, ClipImageConfig, ClipTextConfig, build_clip
from model.networks.unet import UNet, UNetConfig
from model.params import SamplerName
from tests.tiny_pipeline import TEXT, write_tiny_pipeline

CLASSES = 5


def write_guided_pipeline(folder: Path, *, base: int = 16, upsampled: int = 64) -> PipelineSpec:
    """The tiny pipeline with a noised CLIP, which reads its vocabulary, and a noised classifier."""
    spec = write_tiny_pipeline(folder, name="guided", base=base, upsampled=upsampled)
    guides = (_clip(folder, base), _classifier(folder, base))
    spec = replace(spec, classes=CLASSES, guides=guides)
    save_spec(spec)
    return spec


def write_class_pipeline(folder: Path, *, base: int = 16, upsampled: int = 32) -> PipelineSpec:
    """Two class-conditional stages like ADM's: epsilon, learned variances, no captions."""
    folder.mkdir(parents=True, exist_ok=True)
    network = UNetConfig(
        out_channels=6,
        model_channels=32,
        channel_mult=(1, 2),
        residual_blocks=1,
        attention_factors=(2,),
        head_channels=16,
        classes=CLASSES,
    )
    files = {
        "base": _save(folder, "base", UNet(network), network),
        "upsample": _save(folder, "upsample", UNet(replace(network, low_res=True)), network, True),
    }
    stage = StageSpec(
        name="base",
        resolution=base,
        schedule="cosine",
        timesteps=1000,
        prediction="epsilon",
        variance="learned_range",
        sampler=SamplerName.DDPM,
        steps="4",
        weights=files["base"],
    )
    upsample = replace(
        stage,
        name="upsample",
        resolution=upsampled,
        schedule="linear",
        weights=files["upsample"],
        round_low_res=True,
    )
    spec = PipelineSpec(
        name="classes",
        description="Random weights for tests.",
        folder=folder,
        stages=(stage, upsample),
        guidance_scale=1.0,
        context=0,
        classes=CLASSES,
        guides=(_classifier(folder, base),),
    )
    save_spec(spec)
    return spec


def _clip(folder: Path, side: int) -> GuideSpec:
    shape = {"embedding": 8, "heads": 2, "head_channels": 8, "layers": 1}
    config = ClipConfig(
        text=ClipTextConfig(vocabulary=TEXT.vocabulary, context=TEXT.context, **shape),
        image=ClipImageConfig(image_size=side, patch=4, timesteps=1000, **shape),
    )
    network = build_clip(config)
    _randomize(network)
    return GuideSpec(
        kind="clip", weights=save_weights(folder, "clip", network.state_dict(), config)
    )


def _classifier(folder: Path, side: int) -> GuideSpec:
    trunk = UNetConfig(
        out_channels=CLASSES,
        model_channels=32,
        channel_mult=(1, 2),
        residual_blocks=1,
        attention_factors=(2,),
        head_channels=16,
    )
    config = ClassifierConfig(trunk=trunk, image_size=side, pool="attention")
    network = NoisedClassifier(config)
    _randomize(network)
    files = save_weights(folder, "classifier", network.state_dict(), config)
    return GuideSpec(kind="classifier", weights=files)


def _save(
    folder: Path, name: str, network: UNet, config: UNetConfig, low_res: bool = False
) -> tuple[str, ...]:
    _randomize(network)
    return save_weights(folder, name, network.state_dict(), replace(config, low_res=low_res))


def _randomize(network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:  # the zero-initialized layers too, or nothing would move
                spread = 0.6 * parameter[0].numel() ** -0.5
                parameter.normal_(0, spread, generator=generator)
