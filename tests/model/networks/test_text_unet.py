import torch

from model.conditioning import Conditioning
from tests.golden_data import Golden
from tests.reference_networks import network_from_options


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
