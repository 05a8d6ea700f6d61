"""The released networks have their published sizes; options say what the originals say by them."""

import json
from typing import Any

import pytest
import torch
from torch import nn

from model.checkpoints.architectures import (
    ARCHITECTURES,
    classifier_from_adm_config,
    clip_from_config,
    unet_from_adm_config,
    unet_from_glide_options,
)
from model.errors import CheckpointError
from model.networks.precision import lower_precision
from tests.golden_data import FOLDER, Golden

PARAMETERS = {
    "glide-base": 385_030_726,
    "glide-upsample": 398_361_286,
    "glide-base-inpaint": 385_037_638,
    "glide-upsample-inpaint": 398_368_198,
    "glide-clip-image": 86_443_776,
    "glide-clip-text": 71_679_488,
    "adm-64": 295_904_454,
    "adm-128": 421_529_606,
    "adm-256": 553_838_086,
    "adm-256-uncond": 552_814_086,
    "adm-512": 558_997_638,
    "adm-64-256-upsampler": 311_795_910,
    "adm-128-512-upsampler": 308_835_270,
    "adm-lsun": 552_814_086,
    "adm-classifier-64": 65_438_568,
    "adm-classifier-128": 42_568_040,
    "adm-classifier-256": 54_096_360,
    "adm-classifier-512": 54_448_360,
}
MANIFESTS = {
    "glide-base": "base",
    "glide-upsample": "upsample",
    "glide-base-inpaint": "base_inpaint",
    "glide-upsample-inpaint": "upsample_inpaint",
    "glide-clip-image": "clip_image",
    "glide-clip-text": "clip_text",
}


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return ARCHITECTURES[name].build()


def manifest(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((FOLDER / "manifests" / f"{name}.json").read_text())
    return record


def options(**changed: object) -> dict[str, Any]:
    return {**Golden("unet_text2im_small").meta["options"], **changed}


def adm(**changed: object) -> dict[str, Any]:
    return {**Golden("adm_unet_legacy_order").meta["config"], **changed}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_architecture_has_the_originals_number_of_parameters(name: str) -> None:
    assert sum(each.numel() for each in on_meta(name).parameters()) == PARAMETERS[name]
    assert ARCHITECTURES[name].name == name


def test_no_architecture_is_missing() -> None:
    assert set(ARCHITECTURES) == set(PARAMETERS)
    stored = {path.stem for path in (FOLDER / "manifests").glob("*.json")}
    assert stored == set(MANIFESTS.values())


@pytest.mark.parametrize("name", sorted(MANIFESTS))
def test_keys_and_shapes_are_those_of_the_released_files(name: str) -> None:
    released = manifest(MANIFESTS[name])
    shapes = {key: list(each.shape) for key, each in on_meta(name).state_dict().items()}
    assert shapes == released["shapes"]
    assert PARAMETERS[name] == released["num_params"]


def test_half_precision_leaves_float32_what_the_original_leaves() -> None:
    network = lower_precision(on_meta("glide-base"), torch.float16)
    dtypes = {key: each.dtype for key, each in network.state_dict().items()}
    assert set(dtypes.values()) == {torch.float16, torch.float32}
    kept = {key for key, dtype in dtypes.items() if dtype == torch.float32}
    assert kept == set(manifest("base")["float32_in_half_mode"])


def test_old_options_leave_out_what_they_name() -> None:
    with torch.device("meta"):
        plain = unet_from_glide_options(options()).state_dict()
        no_text = unet_from_glide_options(options(xf_width=0)).state_dict()
        unpadded = unet_from_glide_options(options(xf_padding=False)).state_dict()
        unnormed = unet_from_glide_options(options(xf_final_ln=False)).state_dict()
        unscaled = unet_from_glide_options(options(use_scale_shift_norm=False)).state_dict()
        learned = unet_from_glide_options(options(resblock_updown=False)).state_dict()
    text = ("transformer", "token_embedding", "positional_embedding", "padding_embedding")
    assert set(plain) - set(no_text) == {
        key for key in plain if key.startswith((*text, "final_ln")) or "encoder_kv" in key
    }
    assert set(plain) - set(unpadded) == {"padding_embedding"}
    assert set(plain) - set(unnormed) == {"final_ln.weight", "final_ln.bias"}
    key = "middle_block.0.emb_layers.1.weight"
    assert plain[key].shape[0] == 2 * unscaled[key].shape[0]
    added = {key for key in learned if key not in plain}
    assert added == {
        f"{name}.{part}"
        for name in ("input_blocks.2.0.op", "input_blocks.4.0.op")
        for part in ("weight", "bias")
    } | {
        f"{name}.{part}"
        for name in ("output_blocks.1.2.conv", "output_blocks.3.2.conv")
        for part in ("weight", "bias")
    }


def test_multipliers_of_the_image_size_stand_in_for_none() -> None:
    with torch.device("meta"):
        network = unet_from_glide_options(options(image_size=128, channel_mult=""))
    assert network.config.level_channels == (32, 32, 64, 96, 128)
    assert network.config.attention_factors == (8, 16)
    with pytest.raises(CheckpointError, match="image_size 32 needs a channel_mult"):
        unet_from_glide_options(options(channel_mult=""))


def test_absent_arguments_of_adm_are_its_defaults() -> None:
    needed = ("attention_resolutions", "channel_mult", "in_channels", "model_channels")
    few = {key: value for key, value in adm().items() if key in needed}
    few |= {"image_size": 32, "num_res_blocks": 1, "out_channels": 3}
    with torch.device("meta"):
        network = unet_from_adm_config({**few, "num_heads": 2, "num_classes": None})
    config = network.config
    assert (config.heads, config.head_channels, config.heads_upsample) == (2, -1, -1)
    assert not config.scale_shift
    assert not config.resblock_updown
    assert config.conv_resample
    assert config.attention_order == "legacy"
    assert config.classes == 0


def test_fractions_of_channels_are_cut_off() -> None:
    with torch.device("meta"):
        network = unet_from_adm_config(adm(channel_mult=[1, 1.51, 2], model_channels=64))
    assert network.config.level_channels == (64, 96, 128)


def test_super_resolution_doubles_the_first_convolutions_input() -> None:
    with torch.device("meta"):
        network = unet_from_adm_config(adm(), super_res=True)
    assert network.state_dict()["input_blocks.0.0.weight"].shape[1] == 2 * adm()["in_channels"]


def test_absent_and_unknown_options_are_named() -> None:
    given = options()
    del given["xf_heads"]
    with pytest.raises(CheckpointError, match="the options lack xf_heads"):
        unet_from_glide_options(given)
    with pytest.raises(CheckpointError, match="unknown options: colour, flavour"):
        unet_from_glide_options(options(flavour=1, colour=2))
    with pytest.raises(CheckpointError, match="unknown options: pool"):
        unet_from_adm_config(adm(pool="attention"))
    with pytest.raises(CheckpointError, match="dims"):
        unet_from_adm_config(adm(dims=3))
    classifier = Golden("adm_classifier_attention").meta["config"]
    with pytest.raises(CheckpointError, match="unknown pool max"):
        classifier_from_adm_config({**classifier, "pool": "max"})
    with pytest.raises(CheckpointError, match="pool attention needs num_head_channels"):
        classifier_from_adm_config({**classifier, "num_head_channels": -1})
    clip = Golden("clip_small").meta
    with pytest.raises(CheckpointError, match="the options lack n_head"):
        clip_from_config({"n_bpe_vocab": 9, "max_text_len": 3, "n_embd": 8}, clip["image"])
