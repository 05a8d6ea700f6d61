"""ADM's networks, the noised CLIP and half precision equal the originals, number by number."""

import pytest
import torch
from torch.nn import functional as F

from model.checkpoints.architectures import (
    classifier_from_adm_config,
    clip_from_config,
    unet_from_adm_config,
)
from model.conditioning import Conditioning
from model.networks.clip import LOGIT_SCALE
from model.networks.precision import lower_precision
from tests.golden_data import Golden
from tests.reference_networks import filled, network_from_options


@pytest.mark.parametrize("name", ["adm_unet_legacy_order", "adm_unet_new_order"])
def test_class_conditional_network_equals_the_original(name: str) -> None:
    golden = Golden(name)
    network = filled(unet_from_adm_config(golden.meta["config"]))
    assert sum(each.numel() for each in network.parameters()) == golden.meta["num_params"]
    conditioning = Conditioning(label=golden.tensor("y"))
    golden.check("out", network(golden.tensor("x"), golden.tensor("timesteps"), conditioning))
    golden.finish(excused=golden.traces())


def test_classifier_and_its_gradient_equal_the_original() -> None:
    golden = Golden("adm_classifier_attention")
    network = filled(classifier_from_adm_config(golden.meta["config"]))
    x, labels = golden.tensor("x").requires_grad_(), golden.tensor("y")
    logits = network(x, golden.tensor("timesteps"))
    golden.check("logits", logits)
    chosen = F.log_softmax(logits, dim=-1)[torch.arange(len(labels)), labels]
    golden.check("xent", -chosen)
    gradient = torch.autograd.grad(chosen.sum(), x)[0]
    golden.check("cond_grad", golden.meta["classifier_scale"] * gradient)
    golden.finish(excused=golden.traces())


@pytest.mark.parametrize("name", ["clip_small", "clip_full"])
def test_noised_clip_and_its_gradient_equal_the_original(name: str) -> None:
    golden = Golden(name)
    network = clip_from_config(golden.meta["text"], golden.meta["image"])
    filled(network.text)
    filled(network.image)
    tokens, lengths = golden.tensor("text_tokens").long(), golden.tensor("text_len").long()
    x, timesteps = golden.tensor("x").requires_grad_(), golden.tensor("timesteps")
    golden.check("text_features", network.text(tokens, lengths))
    golden.check("image_features", network.image(x, timesteps))
    captions, images = network.encode_text(tokens, lengths), network.encode_image(x, timesteps)
    golden.check("text_emb", captions)
    golden.check("image_emb", images)
    similarity = LOGIT_SCALE * (captions * images).sum(-1)
    golden.check("sim_logits", similarity)
    gradient = torch.autograd.grad(similarity.sum(), x)[0]
    golden.check("cond_grad", golden.meta["grad_scale"] * gradient)
    golden.finish(excused=golden.traces())


def test_half_precision_is_cast_where_the_original_casts() -> None:
    golden = Golden("unet_text2im_small_fp16")
    network = network_from_options(golden.meta["options"])
    tokens, mask = golden.tensor("tokens").long(), golden.tensor("mask")
    x, timesteps = golden.tensor("x"), golden.tensor("timesteps")
    caption = Conditioning(*network.encode_text(tokens, mask))
    golden.check("out_fp32_mode", network(x, timesteps, caption))
    lower_precision(network, torch.float16)
    got = network(x, timesteps, Conditioning(*network.encode_text(tokens, mask)))
    wanted = golden.tensor("out_fp16_mode")
    assert got.dtype == torch.float32
    assert ((got - wanted).norm() / wanted.norm()).item() <= 8e-3
    golden.finish(excused=golden.traces())
