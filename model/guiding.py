"""Guides: the networks beside a cascade whose gradient leads its base stage, and that rank images.

Knows no request but its caption.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from model.catalog import GuideSpec, PipelineSpec
from model.checkpoints.native import load_network
from model.checkpoints.openai import load_clip, load_openai
from model.errors import CheckpointError, UnsupportedSampling
from model.networks.classifier import NoisedClassifier
from model.networks.clip import LOGIT_SCALE, NoisedClip
from model.params import GuideName
from model.sampling.guides import ClassifierGuide, ClipGuide, Guide
from model.text.bpe import ClipTokenizer
from model.text.recent import RecentCaptions
from model.text.tokenizer import CaptionTokenizer

GuideNetwork = NoisedClip | NoisedClassifier
ClipReader = Callable[[str], tuple[Sequence[int], int]]
"""A caption's ids and how many of them are real; the last of those answers for all."""

OWN_TOKENIZER = "clip_tokenizer.json"
"""The file of CLIP's vocabulary; without it, CLIP reads captions as the cascade does."""


class Guides:
    """The loaded guides of a pipeline.

    Args:
        networks: on `device`, in evaluation mode, their parameters frozen.
        read: a caption's ids and their number, for CLIP.
        device: where the networks are.
    """

    def __init__(
        self, networks: Sequence[GuideNetwork], read: ClipReader, device: torch.device
    ) -> None:
        self._clip = next((each for each in networks if isinstance(each, NoisedClip)), None)
        self._read = read
        self._device = device
        self._captions: RecentCaptions[Tensor] = RecentCaptions()
        found: dict[GuideName, Guide] = {}
        for network in networks:
            if isinstance(network, NoisedClip):
                found[GuideName.CLIP] = ClipGuide(network)
            else:
                found[GuideName.CLASSIFIER] = ClassifierGuide(network)
        self.for_steps: Mapping[GuideName, Guide] = MappingProxyType(found)

    @classmethod
    def load(
        cls,
        spec: PipelineSpec,
        captions: CaptionTokenizer | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> "Guides":
        """Reads the networks of a pipeline's guides, and CLIP's vocabulary where it has its own.

        Args:
            spec: the pipeline.
            captions: its own tokenizer.
            device: where the networks go.
            dtype: see `load_guide`.

        Raises:
            CheckpointError: a file is missing, damaged or of another network.
        """
        networks = [load_guide(spec, guide, dtype).to(device) for guide in spec.guides]
        return cls(networks, _reader(spec, captions), device)

    def caption(self, text: str) -> Tensor:
        """(E,) CLIP's unit vector of a caption, computed once for those of late.

        Raises:
            UnsupportedSampling: there is no CLIP.
        """
        return self._captions.get(text, self._encode)

    @torch.no_grad()
    def scores(self, text: str, images: Sequence[NDArray[np.uint8]]) -> list[float]:
        """How well images fit a caption: CLIP's similarity at t = 0, where nothing is noised.

        Args:
            text: the caption.
            images: (H, W, 3) uint8 each; averaged down to the side that CLIP sees.

        Raises:
            UnsupportedSampling: there is no CLIP.
        """
        clip = self._own_clip()
        side = clip.image.config.image_size
        small = [F.adaptive_avg_pool2d(to_signal(image), (side, side)) for image in images]
        rows = torch.stack(small).to(self._device)
        features = clip.encode_image(
            rows, torch.zeros(len(rows), dtype=torch.int64).to(rows.device)
        )
        found: list[float] = (LOGIT_SCALE * features @ self.caption(text)).tolist()
        return found

    @torch.no_grad()
    def _encode(self, text: str) -> Tensor:
        ids, length = self._read(text)
        tokens = torch.tensor([ids], device=self._device)
        return self._own_clip().encode_text(tokens, torch.tensor([length]).to(tokens))[0]

    def _own_clip(self) -> NoisedClip:
        if self._clip is None:
            raise UnsupportedSampling("This pipeline has no CLIP to compare captions with.")
        return self._clip


def load_guide(spec: PipelineSpec, guide: GuideSpec, dtype: torch.dtype) -> GuideNetwork:
    """A guide's network on the CPU, in evaluation mode, its parameters frozen.

    Args:
        spec: the pipeline.
        guide: one of its guides.
        dtype: of what may be narrow in a classifier; a CLIP is always float32.

    Raises:
        CheckpointError: a file is missing, damaged or of another network.
    """
    paths = [spec.folder / name for name in guide.weights]
    if not paths:
        raise CheckpointError(f"the pipeline {spec.name} names no weights for its {guide.kind}")
    if guide.architecture is None:
        network = load_network(paths, dtype)
    elif guide.kind == "clip":
        network = load_clip(paths)
    else:
        network = load_openai(paths[0], guide.architecture, dtype)
    wanted = {"clip": NoisedClip, "classifier": NoisedClassifier}[guide.kind]
    if not isinstance(network, NoisedClip | NoisedClassifier) or not isinstance(network, wanted):
        raise CheckpointError(f"{', '.join(guide.weights)}: no {guide.kind} for {spec.name}")
    return network


def to_signal(pixels: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 to (3, H, W) float32 in [-1, 1], as the networks see images."""
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1


def _reader(spec: PipelineSpec, captions: CaptionTokenizer | None) -> ClipReader:
    path = spec.folder / OWN_TOKENIZER
    if path.exists():
        try:
            tokenizer = Tokenizer.from_str(path.read_text())
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointError(f"{path} is not a tokenizer: {error}") from error
        return ClipTokenizer(tokenizer).encode

    def read(text: str) -> tuple[Sequence[int], int]:
        assert captions is not None, "spec.violations lets no caption through"
        tokens = captions.encode(text)
        return tokens.ids, max(1, sum(tokens.mask))

    return read
