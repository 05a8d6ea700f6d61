"""The project's own weight files: safetensors shards, the network's configuration in the header.

Each shard carries the whole configuration, so that any of them tells what it belongs to. Weights
may be stored as float16; a network is always built in float32.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from model.catalog import PipelineSpec, StageSpec
from model.checkpoints.architectures import NetworkConfig, build_network
from model.errors import CheckpointError
from model.networks.classifier import ClassifierConfig
from model.networks.clip import ClipConfig, ClipImageConfig, ClipTextConfig
from model.networks.precision import lower_precision
from model.networks.text_unet import TextUNet
from model.networks.unet import UNetConfig
from model.text.encoder import TextConfig

FORMAT = "glide-service/1"
Shapes = Mapping[str, torch.Size]
KINDS: Mapping[str, type[NetworkConfig]] = {
    "unet": UNetConfig,
    "classifier": ClassifierConfig,
    "clip": ClipConfig,
    "clip_text": ClipTextConfig,
    "clip_image": ClipImageConfig,
}


def config_to_json(config: NetworkConfig) -> str:
    """The network's configuration as canonical JSON."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True)


def config_from_json(text: str, kind: str = "unet") -> NetworkConfig:
    """The inverse of `config_to_json`.

    Args:
        text: what it wrote.
        kind: of the network, a name of `KINDS`.

    Raises:
        ValueError, TypeError, KeyError: not a configuration.
    """
    record: dict[str, Any] = json.loads(text)
    match kind:
        case "unet":
            return _unet_config(record)
        case "classifier":
            return ClassifierConfig(**{**record, "trunk": _unet_config(record["trunk"])})
        case "clip":
            return ClipConfig(
                text=ClipTextConfig(**record["text"]), image=ClipImageConfig(**record["image"])
            )
    return KINDS[kind](**record)


def _unet_config(record: Mapping[str, Any]) -> UNetConfig:
    members = dict(record)
    if members["text"] is not None:
        members["text"] = TextConfig(**members["text"])
    for name in ("channel_mult", "attention_factors"):
        members[name] = tuple(members[name])
    return UNetConfig(**members)


def save_weights(
    folder: Path,
    name: str,
    weights: Mapping[str, Tensor],
    config: NetworkConfig,
    *,
    dtype: torch.dtype = torch.float16,
    max_shard_bytes: int = 15_000_000,
) -> tuple[str, ...]:
    """Writes a state dict as shards `name-1.safetensors`, ….

    Args:
        folder: where to.
        name: the stage's or guide's name.
        weights: a network's state dict.
        config: its configuration.
        dtype: stored dtype of every floating tensor.
        max_shard_bytes: a new shard starts before one grows past this.

    Returns:
        The file names, for `StageSpec.weights` or `GuideSpec.weights`.
    """
    shards: list[dict[str, Tensor]] = [{}]
    shard_bytes = 0
    for key, tensor in weights.items():
        stored = tensor.detach().to("cpu", dtype).contiguous()
        if shard_bytes + stored.nbytes > max_shard_bytes and shards[-1]:
            shards.append({})
            shard_bytes = 0
        shards[-1][key] = stored
        shard_bytes += stored.nbytes
    kind = next(name for name, each in KINDS.items() if isinstance(config, each))
    metadata = {"format": FORMAT, "network": kind, "config": config_to_json(config)}
    names = tuple(f"{name}-{number}.safetensors" for number in range(1, len(shards) + 1))
    for file_name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / file_name, metadata=metadata)
    return names


def load_weights(paths: Sequence[Path]) -> tuple[NetworkConfig, dict[str, Tensor]]:
    """Reads the shards of one network, memory-mapped.

    Raises:
        CheckpointError: a file is missing, truncated or not of this format.
    """
    weights: dict[str, Tensor] = {}
    configs: set[tuple[str, str]] = set()
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise CheckpointError(f"{path} is not a {FORMAT} weight file")
                configs.add((metadata["config"], metadata.get("network", "unet")))
                weights |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError) as error:
            raise CheckpointError(f"{path} can't be read: {error}") from error
    if len(configs) != 1:
        raise CheckpointError(f"{_names(paths)}: shards of {len(configs)} networks, expected one")
    try:
        return config_from_json(*configs.pop()), weights
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{_names(paths)}: unreadable configuration: {error}") from error


def load_network(paths: Sequence[Path], dtype: torch.dtype = torch.float32) -> nn.Module:
    """The network of its shards, of whichever kind, in evaluation mode, on the CPU.

    Args:
        paths: all shards.
        dtype: of the parameters that may be narrow (see `lower_precision`); others are float32.

    Raises:
        CheckpointError: files are missing or damaged, or do not fit their configuration; the
            message names the first keys that differ.
    """
    config, weights = load_weights(paths)
    with torch.device("meta"):
        network = build_network(config)
    return adopt(network, weights, _names(paths), dtype)


def adopt(
    network: nn.Module, weights: Mapping[str, Tensor], name: str, dtype: torch.dtype
) -> nn.Module:
    """Gives weights to a network, which is then ready to be asked: evaluation mode, no gradients.

    Args:
        network: on the meta device.
        weights: of any floating dtype; what needs no cast stays memory-mapped.
        name: of the network or its files, for the error.
        dtype: as in `load_network`.

    Raises:
        CheckpointError: keys or shapes differ.
    """
    check_weights(weights, network.state_dict(), name)
    lower_precision(network, dtype)
    placed = {key: _placed(weights[key], meta) for key, meta in network.state_dict().items()}
    network.load_state_dict(placed, assign=True)
    return network.eval().requires_grad_(False)


def _placed(weight: Tensor, meta: Tensor) -> Tensor:
    """Casts and lays out in one copy, or in none where there is nothing to do."""
    layout = torch.channels_last if weight.ndim == 4 else torch.preserve_format
    return weight.to(meta.dtype, memory_format=layout)


def load_stage(spec: PipelineSpec, stage: StageSpec) -> TextUNet:
    """The network of one stage that reads captions, float32, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: as `load_network`; or the stage has no weights, or reads no captions.
    """
    if not stage.weights:
        raise CheckpointError(f"the pipeline {spec.name} names no weights for {stage.name}")
    network = load_network([spec.folder / name for name in stage.weights])
    if not isinstance(network, TextUNet):
        raise CheckpointError(f"the network of {spec.name}/{stage.name} reads no captions")
    return network


def check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str) -> None:
    """Compares keys and shapes.

    Raises:
        CheckpointError: names up to three keys of each kind of difference.
    """
    differences = weight_differences(shapes_of(weights), shapes_of(expected))
    if differences:
        raise CheckpointError(f"the weights do not fit {name}: {differences}")


def shapes_of(weights: Mapping[str, Tensor]) -> Shapes:
    """The shape of every tensor of a state dict."""
    return {key: tensor.shape for key, tensor in weights.items()}


def weight_differences(found: Shapes, expected: Shapes) -> str:
    """Up to three keys of each kind of difference; empty where keys and shapes are equal."""
    missing = [key for key in expected if key not in found]
    unknown = [key for key in found if key not in expected]
    reshaped = [
        f"{key} {tuple(found[key])}, expected {tuple(shape)}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    kinds = (("missing", missing), ("unknown", unknown), ("of another shape", reshaped))
    return "; ".join(f"{what}: {', '.join(keys[:3])}" for what, keys in kinds if keys)


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)
