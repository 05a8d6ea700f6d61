"""Endless training pictures drawn from the built-in scenes; picture i is a function of (seed, i).

So a run is resumed exactly by going on at its picture number. Knows no network.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from model.scenes.captions import caption
from model.scenes.layout import sample
from model.scenes.renderer import SIDE, reduced, render
from model.scenes.sprites import Sprites
from model.text.bpe import ClipTokenizer
from model.text.tokenizer import CaptionTokenizer
from model.training.config import TrainingConfig
from model.training.vocabulary import VOCABULARIES

LOW_RES_FACTOR = 4


@dataclass(frozen=True, slots=True)
class Batch:
    """B training pictures.

    Attributes:
        x0: (B, 3, H, W) in [-1, 1].
        tokens: (B, L) int64.
        token_mask: (B, L) bool.
        known: (B, 1, H, W), 1 where the pixel is given to the network.
        low_res: (B, 3, H/4, W/4) in [-1, 1], for the upsampler.
        label: (B,) int64, place of the background among those of the vocabulary.
    """

    x0: Tensor
    tokens: Tensor
    token_mask: Tensor
    known: Tensor
    low_res: Tensor | None
    label: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same pictures on a device."""
        low_res = None if self.low_res is None else self.low_res.to(device)
        return Batch(
            x0=self.x0.to(device),
            tokens=self.tokens.to(device),
            token_mask=self.token_mask.to(device),
            known=self.known.to(device),
            low_res=low_res,
            label=self.label.to(device),
        )


class SceneDataset(Dataset[Batch]):
    """Pictures of the train split, by number; each item is a batch of one."""

    def __init__(
        self,
        config: TrainingConfig,
        sprites: Sprites,
        tokenizer: CaptionTokenizer | ClipTokenizer,
    ) -> None:
        self._config = config
        self._sprites = sprites
        self._tokenizer = tokenizer
        self._vocabulary = VOCABULARIES[config.vocabulary]

    def __getitem__(self, index: int) -> Batch:
        config = self._config
        rng = np.random.default_rng((config.seed, index))
        scene = sample(index, "train", self._vocabulary)
        pixels = render(scene, self._sprites)
        words = "" if rng.random() < config.caption_dropout else caption(scene, variant=index)
        ids, mask = self._read(words)
        low_res = None
        if config.stage == "base":
            pixels = reduced(pixels, SIDE // config.resolution)
        else:
            pixels = _crop(pixels, config.crop, rng)
            low_res = _to_tensor(reduced(pixels, LOW_RES_FACTOR))[None]
            low_res = _augmented(low_res, config.low_res_noise, rng)
        known = np.zeros(pixels.shape[:2], np.float32)
        if config.inpainting and rng.random() < config.mask_rate:
            known = random_mask(pixels.shape[0], rng)
        return Batch(
            x0=_to_tensor(pixels)[None],
            tokens=torch.tensor([ids]),
            token_mask=torch.tensor([mask]),
            known=torch.from_numpy(known)[None, None],
            low_res=low_res,
            label=torch.tensor([self._vocabulary.backgrounds.index(scene.background)]),
        )

    def _read(self, words: str) -> tuple[Sequence[int], Sequence[bool]]:
        """Ids and which of them are real."""
        if isinstance(self._tokenizer, CaptionTokenizer):
            tokens = self._tokenizer.encode(words)
            return tokens.ids, tokens.mask
        ids, length = self._tokenizer.encode(words)
        return ids, [place < length for place in range(len(ids))]


class _From(Sampler[int]):
    """The picture numbers from `start` on, without end."""

    def __init__(self, start: int) -> None:
        self._start = start

    def __iter__(self) -> Iterator[int]:
        index = self._start
        while True:
            yield index
            index += 1


def batches(dataset: SceneDataset, batch: int, start: int, workers: int) -> Iterator[Batch]:
    """Batches of consecutive pictures, from picture `start` on, without end.

    Args:
        dataset: the pictures.
        batch: B.
        start: number of the first picture.
        workers: processes that draw; 0 draws in this one.
    """
    loader = DataLoader(
        dataset, batch, sampler=_From(start), num_workers=workers, collate_fn=_collate
    )
    yield from loader


def _collate(items: list[Batch]) -> Batch:
    low_res = [item.low_res for item in items if item.low_res is not None]
    return Batch(
        x0=torch.cat([item.x0 for item in items]),
        tokens=torch.cat([item.tokens for item in items]),
        token_mask=torch.cat([item.token_mask for item in items]),
        known=torch.cat([item.known for item in items]),
        low_res=torch.cat(low_res) if low_res else None,
        label=torch.cat([item.label for item in items]),
    )


def random_mask(side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Which pixels are known: all but a rectangle, or only a rectangle; (side, side), 1 = known."""
    height, width = rng.uniform(0.25, 0.8, 2) * side
    top, left = rng.uniform(0, side - height), rng.uniform(0, side - width)
    inside = np.zeros((side, side), np.float32)
    inside[int(top) : int(top + height), int(left) : int(left + width)] = 1
    return inside if rng.random() < 0.3 else 1 - inside


def _crop(pixels: NDArray[np.uint8], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A square at multiples of the low-res factor, so that its small twin is exact."""
    places = (pixels.shape[0] - side) // LOW_RES_FACTOR + 1
    top, left = rng.integers(0, places, 2) * LOW_RES_FACTOR
    return pixels[top : top + side, left : left + side]


def _augmented(low_res: Tensor, noise: float, rng: np.random.Generator) -> Tensor:
    """A low-res image as flawed as the base stage makes them: blurred at times, and noisy."""
    if rng.random() < 0.5:
        share = float(rng.uniform(0, 1))
        padded = F.pad(low_res, (1, 1, 1, 1), mode="replicate")
        low_res = (1 - share) * low_res + share * F.avg_pool2d(padded, 3, stride=1)
    spread = float(rng.uniform(0, noise))
    grain = torch.from_numpy(rng.standard_normal(low_res.shape, np.float32))
    return low_res + spread * grain


def _to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) bytes → (3, H, W) in [-1, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1
