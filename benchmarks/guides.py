"""How much the shipped guides see: 1 of 64 captions, and the background, through growing noise.

    python -m benchmarks.guides

Pictures are those of the `val` split, which no network was trained on. Of 64 pictures' captions,
CLIP must pick a picture's own, in words that it was trained with; captions that are equal count as
one.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.catalog import load_catalog, load_spec
from model.diffusion.losses import diffuse, gather
from model.diffusion.schedule import noise_schedule
from model.guiding import Guides, load_guide, to_signal
from model.networks.classifier import NoisedClassifier
from model.networks.clip import NoisedClip
from model.scenes.captions import caption
from model.scenes.layout import sample
from model.scenes.lexicon import CORE
from model.scenes.renderer import SIDE, reduced, render
from model.scenes.sprites import draw_sprites
from model.text.tokenizer import load_tokenizer

TIMESTEPS, CHOICE = (0, 250, 500, 750, 900, 950), 64


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", type=Path, help="a pipeline folder; default: the shipped one")
    parser.add_argument("--pictures", type=int, default=16 * CHOICE, help="a multiple of 64")
    options = parser.parse_args()
    spec = load_spec(options.pipeline) if options.pipeline else load_catalog()["scenes"]
    pictures, captions, labels = _scenes(options.pictures, spec.base.resolution)
    schedule = noise_schedule(spec.base.schedule, spec.base.timesteps)
    cpu = torch.device("cpu")
    guides = Guides.load(spec, load_tokenizer(spec), cpu, torch.float32)
    for guide in spec.guides:
        network = load_guide(spec, guide, torch.float32)
        for number in TIMESTEPS:
            torch.manual_seed(number)
            t = torch.full((len(pictures),), number)
            x_t = diffuse(pictures, torch.randn_like(pictures), gather(schedule.alpha_bar, t))
            rows = zip(torch.split(x_t, CHOICE), torch.split(t, CHOICE), strict=True)
            with torch.no_grad():
                if isinstance(network, NoisedClip):
                    found = [network.encode_image(*each) for each in rows]
                    right = _retrieved(found, captions, guides)
                else:
                    assert isinstance(network, NoisedClassifier)
                    logits = torch.cat([network(*each) for each in rows])
                    right = float((logits.argmax(dim=1) == labels).float().mean())
            print(f"{guide.kind:>10}  t = {number:3}  {right:6.1%} right")


def _retrieved(features: list[Tensor], captions: list[str], guides: Guides) -> float:
    """Share of pictures whose own caption is the likeliest of each 64."""
    right: list[bool] = []
    for place, images in enumerate(features):
        words = captions[place * CHOICE : (place + 1) * CHOICE]
        logits = images @ torch.stack([guides.caption(each) for each in words]).T
        best = logits.argmax(dim=1).tolist()
        right += [words[choice] == own for choice, own in zip(best, words, strict=True)]
    return float(np.mean(right))


def _scenes(count: int, side: int) -> tuple[Tensor, list[str], Tensor]:
    """Pictures in [-1, 1], their captions and the places of their backgrounds."""
    sprites = draw_sprites(CORE)
    scenes = [sample(seed, "val", CORE) for seed in range(count)]
    pictures = [to_signal(reduced(render(each, sprites), SIDE // side)) for each in scenes]
    labels = torch.tensor([CORE.backgrounds.index(each.background) for each in scenes])
    return torch.stack(pictures), [caption(each, each.seed) for each in scenes], labels


if __name__ == "__main__":
    main()
