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
from torch import Tensor

from model.catalog import PipelineSpec, StageSpec
from model.errors import CheckpointError
from model.networks.text_unet import TextUNet
from model.networks.unet import UNetConfig
from model.text.encoder import TextConfig

FORMAT = "glide-service/1"


def config_to_json(config: UNetConfig) -> str:
    """The network's configuration as canonical JSON."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True)


def config_from_json(text: str) -> UNetConfig:
    """The inverse of `config_to_json`.

    Raises:
        ValueError, TypeError, KeyError: not a configuration.
    """
    record: dict[str, Any] = json.loads(text)
    if record["text"] is not None:
        record["text"] = TextConfig(**record["text"])
    for name in ("channel_mult", "attention_factors"):
        record[name] = tuple(record[name])
    return UNetConfig(**record)


def save_weights(
    folder: Path,
    name: str,
    weights: Mapping[str, Tensor],
    config: UNetConfig,
    *,
    dtype: torch.dtype = torch.float16,
    max_shard_bytes: int = 15_000_000,
) -> tuple[str, ...]:
    """Writes a state dict as shards `name-1.safetensors`, ….

    Args:
        folder: where to.
        name: the stage's name.
        weights: a network's state dict.
        config: its configuration.
        dtype: stored dtype of every floating tensor.
        max_shard_bytes: a new shard starts before one grows past this.

    Returns:
        The file names, for `StageSpec.weights`.
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
    metadata = {"format": FORMAT, "config": config_to_json(config)}
    names = tuple(f"{name}-{number}.safetensors" for number in range(1, len(shards) + 1))
    for file_name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / file_name, metadata=metadata)
    return names


def load_weights(paths: Sequence[Path]) -> tuple[UNetConfig, dict[str, Tensor]]:
    """Reads the shards of one network, memory-mapped.

    Raises:
        CheckpointError: a file is missing, truncated or not of this format.
    """
    weights: dict[str, Tensor] = {}
    configs: set[str] = set()
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise CheckpointError(f"{path} is not a {FORMAT} weight file")
                configs.add(metadata["config"])
                weights |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError) as error:
            raise CheckpointError(f"{path} can't be read: {error}") from error
    if len(configs) != 1:
        raise CheckpointError(f"{_names(paths)}: shards of {len(configs)} networks, expected one")
    try:
        return config_from_json(configs.pop()), weights
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{_names(paths)}: unreadable configuration: {error}") from error


def load_stage(spec: PipelineSpec, stage: StageSpec) -> TextUNet:
    """The network of one stage, float32, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: files are missing or damaged, or do not fit their configuration; the
            message names the first keys that differ.
    """
    if not stage.weights:
        raise CheckpointError(f"the pipeline {spec.name} names no weights for {stage.name}")
    config, weights = load_weights([spec.folder / name for name in stage.weights])
    with torch.device("meta"):
        network = TextUNet(config)
    check_weights(weights, network.state_dict(), f"{spec.name}/{stage.name}")
    full = {key: tensor.to(torch.float32) for key, tensor in weights.items()}
    network.load_state_dict(full, assign=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str) -> None:
    """Compares keys and shapes.

    Raises:
        CheckpointError: names up to three keys of each kind of difference.
    """
    missing = [key for key in expected if key not in weights]
    unknown = [key for key in weights if key not in expected]
    reshaped = [
        f"{key} {tuple(weights[key].shape)}, expected {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in weights and weights[key].shape != tensor.shape
    ]
    found = (("missing", missing), ("unknown", unknown), ("of another shape", reshaped))
    differences = [f"{what}: {', '.join(keys[:3])}" for what, keys in found if keys]
    if differences:
        raise CheckpointError(f"the weights do not fit {name}: {'; '.join(differences)}")


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)
