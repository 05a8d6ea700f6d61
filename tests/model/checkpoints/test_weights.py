"""Weight files: what is written is read back; what does not fit is named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from model.catalog import PipelineSpec, load_spec
from model.checkpoints.architectures import CLIP_IMAGE, CLIP_TEXT, NetworkConfig, build_network
from model.checkpoints.native import (
    config_from_json,
    config_to_json,
    load_network,
    load_stage,
    load_weights,
    save_weights,
)
from model.errors import CheckpointError
from model.networks.classifier import ClassifierConfig
from model.networks.clip import ClipConfig
from model.networks.unet import UNetConfig
from tests.tiny_pipeline import write_tiny_pipeline


@pytest.fixture
def spec(tmp_path: Path) -> PipelineSpec:
    return write_tiny_pipeline(tmp_path / "tiny")


def test_description_survives_the_disk(spec: PipelineSpec) -> None:
    assert load_spec(spec.folder) == spec


def test_weights_survive_sharding(spec: PipelineSpec) -> None:
    whole = load_stage(spec, spec.base)
    assert config_from_json(config_to_json(whole.config)) == whole.config
    names = save_weights(
        spec.folder, "base", whole.state_dict(), whole.config, max_shard_bytes=300_000
    )
    assert len(names) > 3
    sharded = load_stage(spec, replace(spec.base, weights=names))
    for key, tensor in whole.state_dict().items():
        assert torch.equal(sharded.state_dict()[key], tensor), key


def test_every_shard_stays_below_its_bound(spec: PipelineSpec) -> None:
    network = load_stage(spec, spec.base)
    bound = 400_000
    names = save_weights(
        spec.folder, "part", network.state_dict(), network.config, max_shard_bytes=bound
    )
    largest = max(tensor.numel() * 2 for tensor in network.state_dict().values())
    for name in names:
        stored = sum(tensor.nbytes for tensor in load_file(spec.folder / name).values())
        assert stored <= max(bound, largest)


@pytest.mark.parametrize("keep", [0, 7, 1000])
def test_truncated_file_is_named(spec: PipelineSpec, keep: int) -> None:
    path = spec.folder / spec.base.weights[0]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"base-1\.safetensors"):
        load_stage(spec, spec.base)


def test_missing_file_is_named(spec: PipelineSpec) -> None:
    (spec.folder / spec.base.weights[0]).unlink()
    with pytest.raises(CheckpointError, match=r"base-1\.safetensors"):
        load_stage(spec, spec.base)


def test_wrong_shape_and_missing_key_are_named(spec: PipelineSpec) -> None:
    network = load_stage(spec, spec.base)
    weights = network.state_dict()
    weights["out.2.bias"] = torch.zeros(5)
    del weights["time_embed.0.bias"]
    save_weights(spec.folder, "base", weights, network.config)
    with pytest.raises(CheckpointError, match=r"missing: time_embed.0.bias.*out.2.bias \(5,\)"):
        load_stage(spec, spec.base)


def test_foreign_safetensors_are_refused(spec: PipelineSpec) -> None:
    save_file({"x": torch.zeros(1)}, spec.folder / spec.base.weights[0])
    with pytest.raises(CheckpointError, match="is not a glide-service"):
        load_stage(spec, spec.base)


def test_shards_of_two_networks_are_refused(spec: PipelineSpec) -> None:
    mixed = replace(spec.base, weights=spec.stages[0].weights + spec.stages[1].weights)
    with pytest.raises(CheckpointError, match="shards of 2 networks"):
        load_stage(spec, mixed)


SMALL = UNetConfig(
    out_channels=6,
    model_channels=32,
    channel_mult=(0.5, 2),
    residual_blocks=1,
    attention_factors=(2,),
    head_channels=16,
    classes=4,
)
CLIP = ClipConfig(
    text=replace(CLIP_TEXT, vocabulary=20, context=6, heads=1, layers=1),
    image=replace(CLIP_IMAGE, image_size=16, timesteps=8, heads=1, layers=1),
)


@pytest.mark.parametrize(
    "config",
    [
        replace(SMALL, model_channels=64),
        ClassifierConfig(trunk=replace(SMALL, model_channels=64), image_size=16, pool="spatial"),
        CLIP,
        CLIP.text,
        CLIP.image,
    ],
    ids=["classes", "classifier", "clip", "clip text", "clip image"],
)
def test_networks_of_every_kind_survive_the_disk(config: NetworkConfig, tmp_path: Path) -> None:
    network = build_network(config)
    names = save_weights(tmp_path, "one", network.state_dict(), config, dtype=torch.float32)
    loaded = load_network([tmp_path / name for name in names])
    assert type(loaded) is type(network)
    assert not loaded.training
    for key, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    assert load_weights([tmp_path / name for name in names])[0] == config


def test_a_network_without_captions_is_no_stage_of_a_caption_pipeline(spec: PipelineSpec) -> None:
    config = replace(SMALL, model_channels=64)
    save_weights(spec.folder, "base", build_network(config).state_dict(), config)
    with pytest.raises(CheckpointError, match="tiny/base reads no captions"):
        load_stage(spec, spec.base)


def test_shards_from_before_the_newer_options_still_load(spec: PipelineSpec) -> None:
    """The shipped weights' headers name no network and lack what was added since."""
    path = spec.folder / spec.base.weights[0]
    with safe_open(path, framework="pt") as file:
        metadata, weights = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    del metadata["network"]
    record = json.loads(metadata["config"])
    for name in ("heads", "attention_order", "scale_shift", "resblock_updown", "classes"):
        del record[name]
    del record["text"]["padding"]
    save_file(weights, path, {**metadata, "config": json.dumps(record)})
    assert load_stage(spec, spec.base).config == load_weights([path])[0]
