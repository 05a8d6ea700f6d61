import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import CheckpointError
from model.ranking import FolderClip

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with random weights, whose vocabulary is the letters."""
    path = tmp_path_factory.mktemp("clip")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>"]
    tokens.append("<|endoftext|>")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (path / "vocab.json").write_text(json.dumps(vocabulary))
    (path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(path / "vocab.json"), str(path / "merges.txt"), model_max_length=16
    )
    shape = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = transformers.CLIPConfig(
        text_config={
            **shape,
            "vocab_size": len(tokens),
            "max_position_embeddings": 16,
            "bos_token_id": len(tokens) - 2,
            "eos_token_id": len(tokens) - 1,
        },
        vision_config={**shape, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(3)
    model = transformers.CLIPModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.5)
    side = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    images = transformers.CLIPImageProcessorPil(**side)
    model.save_pretrained(path)
    transformers.CLIPProcessor(images, tokenizer).save_pretrained(path)
    return path


def test_a_clip_of_transformers_ranks_images_by_a_caption(folder: Path) -> None:
    clip = FolderClip.load(folder, torch.device("cpu"))
    images = list(np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), np.uint8))
    scores = clip.scores("a red dog", images)
    assert len(set(scores)) == 3
    assert clip.scores("a red dog", images[1:]) == pytest.approx(scores[1:], rel=1e-4)
    assert clip.scores("a dog", images) != pytest.approx(scores, rel=1e-3)
    assert len(clip.scores("dog " * 100, images)) == 3


def test_a_folder_without_a_clip_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no CLIP of transformers"):
        FolderClip.load(tmp_path, torch.device("cpu"))
