"""The guides that ship see what is there: a ball on a plain background tells their colours."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.catalog import PipelineSpec, load_catalog
from model.guiding import Guides, load_guide, to_signal
from model.networks.classifier import NoisedClassifier
from model.pipeline import Pipeline
from model.scenes.lexicon import COLOURS, CORE, PLACES
from model.text.tokenizer import load_tokenizer

PLAIN = [name for name in CORE.backgrounds if name not in PLACES]


@pytest.fixture(scope="module")
def spec() -> PipelineSpec:
    return load_catalog()["scenes"]


def ball_on(colour: str) -> NDArray[np.uint8]:
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    ball = (x**2 + y**2 < 0.3)[..., None]
    return np.where(ball, COLOURS["orange"], COLOURS[colour]).astype(np.uint8)


def test_clip_ranks_the_right_background_first(spec: PipelineSpec) -> None:
    guides = Guides.load(spec, load_tokenizer(spec), torch.device("cpu"), torch.float32)
    pictures = [ball_on(colour) for colour in PLAIN]
    right = [
        int(np.argmax(guides.scores(f"a cat on a {colour} background", pictures))) == place
        for place, colour in enumerate(PLAIN)
    ]
    assert sum(right) >= 7


def test_the_classifier_knows_plain_backgrounds(spec: PipelineSpec) -> None:
    (guide,) = (each for each in spec.guides if each.kind == "classifier")
    network = load_guide(spec, guide, torch.float32)
    assert isinstance(network, NoisedClassifier)
    assert network.classifier_config.classes == spec.classes == len(CORE.backgrounds)
    pictures = torch.stack([to_signal(ball_on(colour)) for colour in PLAIN])
    with torch.no_grad():
        found = network(pictures, torch.zeros(len(PLAIN), dtype=torch.int64)).argmax(dim=1)
    assert sum(int(place) == number for number, place in enumerate(found)) >= 7


def test_the_best_of_several_is_drawn_with_the_guides_of_the_box(spec: PipelineSpec) -> None:
    pipeline = Pipeline.load(spec)
    options = {"width": 64, "steps": 2, "seed": 4, "n": 2, "best_of": 3}
    best = pipeline.sample("a cat on a red background", **options)  # type: ignore[arg-type]
    every = pipeline.sample("a cat on a red background", width=64, steps=2, seed=4, n=3)
    drawn = [np.asarray(image).tobytes() for image in every]
    assert len(best) == 2
    assert all(np.asarray(image).tobytes() in drawn for image in best)
    guided = pipeline.sample(
        "a cat",
        width=64,
        steps=2,
        seed=4,
        clip_guidance_scale=1.0,
        classifier_guidance_scale=1.0,
        label=0,
    )
    assert np.asarray(guided[0]).tobytes() not in drawn
