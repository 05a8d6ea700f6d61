"""OpenAI's checkpoints of GLIDE and ADM: plain state dicts, read as they are.

The project's networks have the originals' keys and shapes, so nothing is renamed: a file is read,
compared with its architecture and taken over. Knows no download: see `model.checkpoints.pull`.
"""

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from model.checkpoints.architectures import (
    ARCHITECTURES,
    Architecture,
    NetworkConfig,
    build_network,
)
from model.checkpoints.native import Shapes, adopt, shapes_of, weight_differences
from model.errors import CheckpointError
from model.networks.clip import ClipImageEncoder, ClipTextEncoder, NoisedClip

# What reading a damaged file can end in; torch promises nothing narrower.
_UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    SafetensorError,
)


def load_openai(path: Path, architecture: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The network of one of OpenAI's files, in evaluation mode, on the CPU.

    Args:
        path: a `.pt` or `.safetensors` file, a plain state dict of float32 or float16 tensors.
        architecture: name of a network of `ARCHITECTURES`.
        dtype: of the parameters that may be narrow (see `lower_precision`); the others are float32.
            What needs no cast stays memory-mapped until something moves it.

    Raises:
        CheckpointError: there is no such architecture; the file is missing, truncated, or of
            another network, where the message names the first keys that differ.
    """
    wanted = _architecture(architecture)
    weights = read_state_dict(path)
    with torch.device("meta"):
        network = wanted.build()
    return adopt(network, weights, f"{architecture} ({path.name})", dtype)


def load_clip(paths: Sequence[Path]) -> NoisedClip:
    """The noised CLIP of OpenAI's two files, in any order; float32, in evaluation mode.

    Raises:
        CheckpointError: as `load_openai`, or the files are not one of each encoder.
    """
    shapes = {path: shapes_of(read_state_dict(path)) for path in paths}
    found: dict[str, Path] = {}
    for name in ("glide-clip-image", "glide-clip-text"):
        wanted = _shapes(ARCHITECTURES[name].config)
        fitting = [path for path in paths if shapes[path] == wanted]
        if not fitting:
            files = ", ".join(path.name for path in paths) or "no file"
            raise CheckpointError(f"a noised CLIP is two files; {files}: none is {name}")
        found[name] = fitting[0]
    text = load_openai(found["glide-clip-text"], "glide-clip-text")
    image = load_openai(found["glide-clip-image"], "glide-clip-image")
    assert isinstance(text, ClipTextEncoder)
    assert isinstance(image, ClipImageEncoder)
    return NoisedClip(text, image).eval()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, memory-mapped where its format allows it.

    Raises:
        CheckpointError: the file is missing, truncated, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            # Files of before torch 1.6 are no archives, and can't be mapped.
            mapped = zipfile.is_zipfile(path)
            weights = torch.load(path, "cpu", weights_only=True, mmap=mapped)
    except _UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, pickle.UnpicklingError):  # torch's own words advise to trust the file
            reason = "it is no file of PyTorch weights, or a damaged one"
        raise CheckpointError(f"{path} can't be read: {reason}") from error
    if not (isinstance(weights, dict) and weights and _all_tensors(weights)):
        raise CheckpointError(f"{path} holds no state dict: names with tensors")
    return weights


def identify(path: Path) -> tuple[str, ...]:
    """The architectures whose keys and shapes a file has; reads no weights, only where they lie.

    Several fit where networks differ in what no shape shows (`adm-256-uncond` and `adm-lsun`),
    none where the file belongs to something else: `explain` says to what it comes nearest.

    Raises:
        CheckpointError: the file is missing, truncated, or holds no state dict.
    """
    found = shapes_of(read_state_dict(path))
    return tuple(name for name, each in ARCHITECTURES.items() if _shapes(each.config) == found)


def explain(path: Path) -> str:
    """How a file that `identify` does not know differs from the architecture it comes nearest to.

    Raises:
        CheckpointError: the file is missing, truncated, or holds no state dict.
    """
    found = shapes_of(read_state_dict(path))
    likeness = {
        name: _likeness(found, _shapes(each.config)) for name, each in ARCHITECTURES.items()
    }
    nearest = max(likeness, key=likeness.__getitem__)
    if not likeness[nearest]:
        return f"{path.name} shares no tensor with any of: {', '.join(ARCHITECTURES)}"
    differences = weight_differences(found, _shapes(ARCHITECTURES[nearest].config))
    return f"{path.name} comes nearest to {nearest}, but differs: {differences or 'nowhere'}"


def _architecture(name: str) -> Architecture:
    try:
        return ARCHITECTURES[name]
    except KeyError:
        known = ", ".join(ARCHITECTURES)
        raise CheckpointError(f"there is no architecture {name}; there are: {known}") from None


@cache
def _shapes(config: NetworkConfig) -> Shapes:
    with torch.device("meta"):
        network = build_network(config)
    return shapes_of(network.state_dict())


def _likeness(found: Shapes, expected: Shapes) -> float:
    """Share of equal tensors among all of both, 0 … 1."""
    return len(found.items() & expected.items()) / len(found.keys() | expected.keys())


def _all_tensors(weights: Mapping[Any, Any]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items())
