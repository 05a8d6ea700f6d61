"""Golden files of the denoisers: GLIDE's networks and ADM's, one call each.

Also what other computations need of them: a network of a file's own metadata, and what its rows
are conditioned on.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model.checkpoints.architectures import unet_from_adm_config, unet_from_glide_options
from model.conditioning import Conditioning
from model.errors import GoldenFileError
from model.evaluation.verification.fill import draw_input, filled
from model.evaluation.verification.golden import Golden
from model.evaluation.verification.tolerance import Half
from model.networks.layers import timestep_embedding
from model.networks.precision import lower_precision
from model.networks.text_unet import TextUNet
from model.networks.unet import UNet

INPUTS = ("x", "timesteps", "tokens", "mask", "low_res", "inpaint_image", "inpaint_mask")
_STRIDE, _STRIDED_INPUT_LIMIT, _HEAD = 4, 2e-6, 64
_HALF_MODE_LIMIT = 8e-3


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without those that are null, which is how the originals write "the default"."""
    return {name: value for name, value in options.items() if value is not None}


def glide_network(golden: Golden, dtype: torch.dtype) -> UNet:
    """The network of a file's `options`, filled, its body cast."""
    options = given(golden.meta["options"])
    network = filled(lambda: unet_from_glide_options(options), golden.setting.device)
    return lower_precision(network, dtype)


def read_conditioning(golden: Golden, network: UNet) -> Conditioning:
    """What a file's rows are conditioned on, (B, …) each; inputs that it lacks are not passed."""
    image, mask = golden.optional("inpaint_image"), golden.optional("inpaint_mask")
    if mask is not None and image is None:
        channels = network.config.image_channels
        image = mask.new_zeros(len(mask), channels, *mask.shape[2:])
    label = golden.optional("y")
    return Conditioning(
        *_caption(golden, network),
        low_res=golden.optional("low_res"),
        image=None if mask is None else image,
        mask=mask,
        label=None if label is None else label.long(),
    )


def _tokens(golden: Golden, network: TextUNet) -> tuple[Tensor, Tensor]:
    tokens, mask = golden.tensor("tokens").long(), golden.optional("mask")
    if mask is not None:
        return tokens, mask.bool()
    if network.text_config.padding:
        raise GoldenFileError("the file has no array 'mask', which its padding embedding needs")
    return tokens, torch.ones_like(tokens, dtype=torch.bool)


def _caption(golden: Golden, network: UNet) -> tuple[Tensor | None, Tensor | None]:
    if not isinstance(network, TextUNet):
        return None, None
    return network.encode_text(*_tokens(golden, network))


def check_glide(golden: Golden) -> None:
    """`unet_*`: one call, and what leads up to it."""
    golden.accept(INPUTS)
    network = glide_network(golden, golden.setting.dtype)
    golden.check_meta("num_params", _size(network))
    x, timesteps = _picture(golden, network), golden.tensor("timesteps")
    golden.check(
        "time_emb_in", lambda: timestep_embedding(timesteps, network.config.model_channels)
    )
    if isinstance(network, TextUNet):
        _check_text(golden, network)
    conditioning = read_conditioning(golden, network)
    _check_output(golden, lambda: network(x, timesteps, conditioning))
    nothing_known = Conditioning(
        conditioning.pooled, conditioning.keys_values, conditioning.low_res
    )
    golden.check(
        "out_no_inpaint_args",
        lambda: network(x, timesteps, nothing_known),
        half=Half.OUTPUT,
    )


def _picture(golden: Golden, network: UNet) -> Tensor:
    """x_t; where the file shortened it, it is drawn again and the short form compared."""
    if golden.has("x"):
        x = golden.tensor("x")
    elif golden.has("x_s4"):
        side, rows = golden.meta["options"]["image_size"], len(golden.array("timesteps"))
        shape = (rows, network.config.image_channels, side, side)
        x = draw_input(f"{golden.meta['input_seed']}/x", shape).to(golden.setting.device)
    else:
        raise GoldenFileError("the file has no array 'x'")
    golden.check("x_s4", x[:, :, ::_STRIDE, ::_STRIDE], limit=_STRIDED_INPUT_LIMIT)
    return x


def _check_text(golden: Golden, network: TextUNet) -> None:
    pooled, sequence = network.encode_caption(*_tokens(golden, network))
    sequence = sequence.transpose(1, 2)  # (B, D, L)
    golden.check("xf_proj", pooled, half=Half.TEXT)
    golden.check("xf_out", sequence, half=Half.TEXT)
    golden.check("xf_out_head", sequence[:, :_HEAD], half=Half.TEXT)


def _check_output(golden: Golden, compute: Callable[[], Tensor]) -> None:
    if not any(golden.has(name) for name in ("out", "out_s4", "out_mean", "out_std")):
        return
    out = compute()
    golden.check("out", out, half=Half.OUTPUT)
    golden.check("out_s4", out[:, :, ::_STRIDE, ::_STRIDE], half=Half.OUTPUT)
    channels = out.double().transpose(0, 1).flatten(1)  # (C, B · H · W)
    golden.check("out_mean", channels.mean(1), half=Half.OUTPUT)
    golden.check("out_std", channels.std(1), half=Half.OUTPUT)


def check_glide_half_mode(golden: Golden) -> None:
    """`unet_*_fp16`: the same network in float32 and in the original's half mode."""
    golden.accept(INPUTS)
    for dtype, name in ((torch.float32, "out_fp32_mode"), (torch.float16, "out_fp16_mode")):
        network = glide_network(golden, dtype)
        x, conditioning = _picture(golden, network), read_conditioning(golden, network)
        out = network(x, golden.tensor("timesteps"), conditioning)
        if dtype == torch.float32:
            golden.check_meta("num_params", _size(network))
            golden.check(name, out)
        else:
            golden.check_half(name, out, _HALF_MODE_LIMIT)


def check_adm(golden: Golden) -> None:
    """`adm_unet_*`: one call."""
    _check_adm(golden, super_res=False)


def check_adm_super_resolution(golden: Golden) -> None:
    """`adm_superres*`: one call."""
    _check_adm(golden, super_res=True)


def _check_adm(golden: Golden, *, super_res: bool) -> None:
    golden.accept((*INPUTS, "y"))
    config, setting = given(golden.meta["config"]), golden.setting
    network = filled(lambda: unet_from_adm_config(config, super_res=super_res), setting.device)
    golden.check_meta("num_params", _size(network))
    lower_precision(network, setting.dtype)
    conditioning = read_conditioning(golden, network)
    x, timesteps = golden.tensor("x"), golden.tensor("timesteps")
    golden.check("out", lambda: network(x, timesteps, conditioning), half=Half.OUTPUT)


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
