"""The networks equal the originals, number by number."""

import pytest
import torch

from model.conditioning import Conditioning
from model.networks.layers import timestep_embedding
from tests.golden_data import Golden
from tests.reference_networks import network_from_options


@pytest.mark.parametrize(
    "name",
    [
        "unet_text2im_small",
        "unet_superres_small",
        "unet_inpaint_small",
        "unet_superres_inpaint_small",
        "unet_base_full",
    ],
)
def test_network_equals_the_original(name: str) -> None:
    golden = Golden(name)
    network = network_from_options(golden.meta["options"])
    assert sum(each.numel() for each in network.parameters()) == golden.meta["num_params"]
    tokens, mask = golden.tensor("tokens").long(), golden.tensor("mask").bool()
    timesteps, x = golden.tensor("timesteps"), golden.tensor("x")
    given = network.config
    image = golden.tensor("inpaint_image") if given.inpainting else None
    known = golden.tensor("inpaint_mask") if given.inpainting else None
    low_res = golden.tensor("low_res") if given.low_res else None

    pooled, sequence = network.encode_caption(tokens, mask)
    golden.check("xf_proj", pooled)
    golden.check("xf_out", sequence.transpose(1, 2))
    golden.check("time_emb_in", timestep_embedding(timesteps, given.model_channels))
    pooled, keys_values = network.encode_text(tokens, mask)
    conditioning = Conditioning(pooled, keys_values, low_res, image, known)
    golden.check("out", network(x, timesteps, conditioning))
    if golden.has("out_no_inpaint_args"):
        nothing_known = Conditioning(pooled, keys_values, low_res)
        golden.check("out_no_inpaint_args", network(x, timesteps, nothing_known))
    golden.finish(excused=golden.traces())


def test_timestep_embedding_equals_the_original() -> None:
    golden = Golden("timestep_embedding")
    t = golden.tensor("t")
    if "dim" in golden.meta:
        golden.check("emb", timestep_embedding(t, golden.meta["dim"]))
    for width in golden.meta.get("dims", []):
        golden.check(f"emb{width}", timestep_embedding(t, width))
    golden.finish()


def test_caption_features_are_read_not_recomputed() -> None:
    """A step's cost and result depend on the caption only through its stored features."""
    golden = Golden("unet_text2im_small")
    network = network_from_options(golden.meta["options"])
    calls: list[str] = []
    network.transformer.register_forward_hook(lambda *_: calls.append("transformer"))
    for block in network.attention_blocks:
        assert block.encoder_kv is not None
        block.encoder_kv.register_forward_hook(lambda *_: calls.append("keys"))
    tokens, mask = golden.tensor("tokens").long(), golden.tensor("mask").bool()
    features = Conditioning(*network.encode_text(tokens, mask))
    encoded = len(calls)
    assert encoded == 1
    first = network(golden.tensor("x"), golden.tensor("timesteps"), features)
    again = network(golden.tensor("x"), golden.tensor("timesteps"), features)
    assert len(calls) == encoded
    assert torch.equal(first, again)
