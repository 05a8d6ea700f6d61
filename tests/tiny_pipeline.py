"""A tiny two-stage pipeline with random weights, written to a folder as a real one would be."""

from pathlib import Path

import torch

from model.catalog import PipelineSpec, StageSpec, save_spec
from model.checkpoints.native import save_weights
from model.networks.text_unet import TextUNet
from model.networks.unet import UNetConfig
from model.params import SamplerName
from model.text.encoder import TextConfig
from model.text.tokenizer import word_tokenizer

CAPTION = (
    "a an above apple at below big cat dog grass green house left night of on red right the to"
)
WORDS = CAPTION.split()
TEXT = TextConfig(
    vocabulary=len(WORDS) + 2, context=12, width=32, layers=1, heads=2, pooling="mean"
)


def write_tiny_pipeline(
    folder: Path, *, name: str = "tiny", base: int = 64, upsampled: int = 256
) -> PipelineSpec:
    """Writes pipeline.json, tokenizer.json and one shard a stage; the same bytes at every call."""
    folder.mkdir(parents=True, exist_ok=True)
    word_tokenizer(WORDS).save(str(folder / "tokenizer.json"))
    networks = {
        "base": UNetConfig(
            out_channels=3,
            model_channels=32,
            channel_mult=(1, 2),
            residual_blocks=1,
            attention_factors=(2,),
            head_channels=16,
            inpainting=True,
            patch=4,
            text=TEXT,
        ),
        "upsample": UNetConfig(
            out_channels=3,
            model_channels=32,
            channel_mult=(1, 1),
            residual_blocks=1,
            attention_factors=(),
            head_channels=16,
            low_res=True,
            inpainting=True,
            patch=8,
            residual_low_res=True,
            text=TEXT,
        ),
    }
    files = {}
    for stage, config in networks.items():
        torch.manual_seed(7)
        network = TextUNet(config)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim > 1:  # the zero-initialized layers too, or nothing would move
                    torch.nn.init.normal_(parameter, std=0.6 * parameter[0].numel() ** -0.5)
        files[stage] = save_weights(folder, stage, network.state_dict(), config)
    spec = PipelineSpec(
        name=name,
        description="Random weights for tests.",
        folder=folder,
        stages=(
            StageSpec(
                name="base",
                resolution=base,
                schedule="cosine",
                timesteps=1000,
                prediction="x0",
                variance="fixed_small",
                sampler=SamplerName.DPMPP_2M,
                steps=6,
                weights=files["base"],
            ),
            StageSpec(
                name="upsample",
                resolution=upsampled,
                schedule="linear",
                timesteps=1000,
                prediction="x0",
                variance="fixed_small",
                sampler=SamplerName.DDIM,
                steps=3,
                weights=files["upsample"],
            ),
        ),
        guidance_scale=3.0,
        context=TEXT.context,
    )
    save_spec(spec)
    return spec
