"""Every option of the originals, against an independent computation in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.checkpoints.architectures import (
    classifier_from_adm_config,
    unet_from_adm_config,
    unet_from_glide_options,
)
from model.conditioning import Conditioning
from model.networks.text_unet import TextUNet
from tests.golden_data import Golden
from tests.plain_adm import PlainNetwork
from tests.reference_networks import filled, input_noise

PLAIN = {
    "image_size": 16,
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 6,
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "channel_mult": [1, 2],
}
ADM = {
    "old": PLAIN,
    "heads": PLAIN | {"num_heads": 4, "num_heads_upsample": 2, "conv_resample": False},
    "mixed": PLAIN
    | {"use_scale_shift_norm": True, "num_heads": 2, "use_new_attention_order": True},
    "updown": PLAIN | {"resblock_updown": True, "num_head_channels": 16, "num_res_blocks": 2},
    "fractions": PLAIN
    | {"channel_mult": [0.5, 1, 1.5], "model_channels": 64, "attention_resolutions": [1, 4]},
    "grey": PLAIN | {"in_channels": 1, "out_channels": 1, "resblock_updown": True},
}
T = torch.tensor([3, 871])


def doubled(network: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.double() for key, tensor in network.state_dict().items()}


def assert_equal(got: Tensor, wanted: Tensor) -> None:
    assert got.shape == wanted.shape
    assert (got - wanted).norm() <= 5e-6 * wanted.norm()


def noised(config: dict[str, Any]) -> Tensor:
    return input_noise("options/x", (2, config["in_channels"], 16, 16))


@pytest.mark.parametrize("name", sorted(ADM))
def test_adm_network_equals_the_plain_computation(name: str) -> None:
    config, x = ADM[name], noised(ADM[name])
    network = filled(unet_from_adm_config(config))
    plain = PlainNetwork(doubled(network), config).unet(x.double(), T)
    assert_equal(network(x, T, Conditioning()), plain)


def test_classes_are_added_to_the_timestep() -> None:
    config = ADM["mixed"] | {"num_classes": 7}
    network, labels = filled(unet_from_adm_config(config)), torch.tensor([6, 0])
    x, weights = noised(config), doubled(network)
    extra = weights["label_emb.weight"][labels]
    plain = PlainNetwork(weights, config, extra=extra).unet(x.double(), T)
    assert_equal(network(x, T, Conditioning(label=labels)), plain)


def test_super_resolution_reads_the_enlarged_image() -> None:
    config = ADM["updown"]
    network = filled(unet_from_adm_config(config, super_res=True))
    x, low_res = noised(config), input_noise("options/low_res", (2, 3, 1, 1)).clamp(-1, 1)
    door = torch.cat([x, low_res.expand_as(x)], 1).double()  # one pixel enlarges to itself
    plain = PlainNetwork(doubled(network), config).unet(door, T)
    assert_equal(network(x, T, Conditioning(low_res=low_res)), plain)


@pytest.mark.parametrize("pool", ["attention", "adaptive", "spatial", "spatial_v2"])
def test_every_pool_equals_the_plain_computation(pool: str) -> None:
    config = PLAIN | {"pool": pool, "out_channels": 11, "num_head_channels": 16}
    network, x = filled(classifier_from_adm_config(config)), noised(config)
    got = network(x, T)
    assert got.shape == (2, 11)
    assert_equal(got, PlainNetwork(doubled(network), config).logits(x.double(), T))


@pytest.mark.parametrize(
    "changed",
    [
        {"xf_width": 0},
        {"use_scale_shift_norm": False, "resblock_updown": False},
        {"xf_final_ln": False, "xf_padding": False},
        {"num_head_channels": -1, "num_heads": 2, "num_heads_upsample": 4},
    ],
    ids=["no text", "old blocks", "bare text", "heads"],
)
def test_old_glide_options_equal_the_plain_computation(changed: dict[str, Any]) -> None:
    golden = Golden("unet_text2im_small")
    options = {**golden.meta["options"], **changed}
    network = filled(unet_from_glide_options(options))
    config = {**options, "model_channels": 32, "channel_mult": (1, 2, 2)}
    config["attention_resolutions"] = (2, 4)
    x, weights, conditioning = input_noise("options/x", (2, 3, 32, 32)), doubled(network), None
    plain = PlainNetwork(weights, config)
    if isinstance(network, TextUNet):
        tokens, mask = golden.tensor("tokens")[1:].long(), golden.tensor("mask")[1:]
        pooled, sequence = network.encode_caption(tokens, mask)
        plain.text, plain.extra = sequence.double().mT, pooled.double()
        conditioning = Conditioning(*network.encode_text(tokens, mask))
    got = network(x, T, conditioning or Conditioning())
    assert_equal(got, plain.unet(x.double(), T))


def test_without_padding_vectors_the_mask_says_nothing() -> None:
    golden = Golden("unet_text2im_small")
    options = {**golden.meta["options"], "xf_final_ln": False, "xf_padding": False}
    network = filled(unet_from_glide_options(options))
    assert isinstance(network, TextUNet)
    tokens, mask = golden.tensor("tokens").long(), golden.tensor("mask")
    pooled, sequence = network.encode_caption(tokens, mask)
    other_pooled, other_sequence = network.encode_caption(tokens, ~mask)
    assert torch.equal(pooled, other_pooled)
    assert torch.equal(sequence, other_sequence)
    expected = network.transformer(network.token_embedding(tokens) + network.positional_embedding)
    assert torch.equal(sequence, expected)
