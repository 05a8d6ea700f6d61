"""The released networks by name, and networks from the originals' own options.

Names are data for `pipeline.json` (`StageSpec.architecture`). The released sizes are those of
OpenAI's model cards and command lines: arXiv:2112.10741 §4 and arXiv:2105.05233 §4 and appendix I.
Knows no files: see `model.checkpoints.openai`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

from torch import nn

from model.errors import CheckpointError
from model.networks.classifier import ClassifierConfig, NoisedClassifier, Pool
from model.networks.clip import (
    ClipConfig,
    ClipImageConfig,
    ClipImageEncoder,
    ClipTextConfig,
    ClipTextEncoder,
    NoisedClip,
    build_clip,
)
from model.networks.text_unet import TextUNet
from model.networks.unet import UNet, UNetConfig
from model.text.encoder import TextConfig

Kind = Literal["unet", "classifier", "clip_image", "clip_text"]
NetworkConfig = UNetConfig | ClassifierConfig | ClipConfig | ClipImageConfig | ClipTextConfig

# Channel multipliers by side of the image, px: every network's coarsest level has 8 × 8 positions.
MULTIPLIERS: Mapping[int, tuple[float, ...]] = MappingProxyType(
    {64: (1, 2, 3, 4), 128: (1, 1, 2, 3, 4), 256: (1, 1, 2, 2, 4, 4), 512: (0.5, 1, 1, 2, 2, 4, 4)}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One released network.

    Attributes:
        name: as in `pipeline.json`.
        kind: what it is for.
        config: its shape.
        image_size: side of the image it is trained on, px; 0 where it sees none.
        schedule: noise schedule it is trained with.
    """

    name: str
    kind: Kind
    config: NetworkConfig
    image_size: int
    schedule: Literal["cosine", "linear"]

    def build(self) -> nn.Module:
        """The network with random weights, in training mode."""
        return build_network(self.config)


def build_network(config: NetworkConfig) -> nn.Module:
    """The network of a configuration, with random weights, in training mode."""
    match config:
        case UNetConfig():
            return build_unet(config)
        case ClassifierConfig():
            return NoisedClassifier(config)
        case ClipConfig():
            return build_clip(config)
        case ClipImageConfig():
            return ClipImageEncoder(config)
        case ClipTextConfig():
            return ClipTextEncoder(config)


def build_unet(config: UNetConfig) -> UNet:
    """A `TextUNet` where there are captions, a `UNet` otherwise; random weights."""
    return UNet(config) if config.text is None else TextUNet(config)


def pixel_factors(image_size: int, sides: tuple[int, ...]) -> tuple[int, ...]:
    """Levels by their downsampling, from levels by their side in pixels."""
    return tuple(image_size // side for side in sides)


GLIDE_TEXT = TextConfig(vocabulary=50257, context=128, width=512, layers=16, heads=8)
GLIDE_BASE = UNetConfig(
    out_channels=6,
    model_channels=192,
    channel_mult=MULTIPLIERS[64],
    residual_blocks=3,
    attention_factors=pixel_factors(64, (32, 16, 8)),
    dropout=0.1,
    text=GLIDE_TEXT,
)
GLIDE_UPSAMPLE = replace(
    GLIDE_BASE,
    channel_mult=MULTIPLIERS[256],
    residual_blocks=2,
    attention_factors=pixel_factors(256, (32, 16, 8)),
    low_res=True,
)
CLIP_IMAGE = ClipImageConfig(
    image_size=64, patch=4, timesteps=1000, embedding=512, heads=12, head_channels=64, layers=12
)
CLIP_TEXT = ClipTextConfig(
    vocabulary=65536, context=77, embedding=512, heads=8, head_channels=64, layers=12
)


def _adm(
    image_size: int, *, channels: int = 256, blocks: int = 2, classes: int = 1000
) -> UNetConfig:
    return UNetConfig(
        out_channels=6,
        model_channels=channels,
        channel_mult=MULTIPLIERS[image_size],
        residual_blocks=blocks,
        attention_factors=pixel_factors(image_size, (32, 16, 8)),
        classes=classes,
    )


def _adm_classifier(image_size: int) -> ClassifierConfig:
    trunk = replace(
        _adm(image_size, channels=128, blocks=4 if image_size == 64 else 2, classes=0),
        out_channels=1000,
    )
    return ClassifierConfig(trunk=trunk, image_size=image_size)


_ADM_256 = _adm(256)
_ADM_64_256 = replace(_adm(256, channels=192), head_channels=-1, heads=4, low_res=True)
_ADM_128_512 = replace(
    _adm(512, channels=192),
    channel_mult=MULTIPLIERS[256],
    attention_factors=pixel_factors(512, (32, 16)),
    low_res=True,
)

_UNETS: tuple[tuple[str, UNetConfig, int, Literal["cosine", "linear"]], ...] = (
    ("glide-base", GLIDE_BASE, 64, "cosine"),
    ("glide-upsample", GLIDE_UPSAMPLE, 256, "linear"),
    ("glide-base-inpaint", replace(GLIDE_BASE, inpainting=True), 64, "cosine"),
    ("glide-upsample-inpaint", replace(GLIDE_UPSAMPLE, inpainting=True), 256, "linear"),
    (
        "adm-64",
        replace(_adm(64, channels=192, blocks=3), attention_order="new", dropout=0.1),
        64,
        "cosine",
    ),
    ("adm-128", replace(_adm(128), head_channels=-1, heads=4), 128, "linear"),
    ("adm-256", _ADM_256, 256, "linear"),
    ("adm-256-uncond", replace(_ADM_256, classes=0), 256, "linear"),
    ("adm-512", _adm(512), 512, "linear"),
    ("adm-64-256-upsampler", _ADM_64_256, 256, "linear"),
    ("adm-128-512-upsampler", _ADM_128_512, 512, "linear"),
    ("adm-lsun", replace(_ADM_256, classes=0, dropout=0.1), 256, "linear"),
)


def _registry() -> Mapping[str, Architecture]:
    unets = (
        Architecture(name=name, kind="unet", config=config, image_size=side, schedule=schedule)
        for name, config, side, schedule in _UNETS
    )
    classifiers = (
        Architecture(
            name=f"adm-classifier-{side}",
            kind="classifier",
            config=_adm_classifier(side),
            image_size=side,
            schedule="cosine" if side == 64 else "linear",
        )
        for side in MULTIPLIERS
    )
    clips = (
        Architecture(
            name="glide-clip-image",
            kind="clip_image",
            config=CLIP_IMAGE,
            image_size=64,
            schedule="cosine",
        ),
        Architecture(
            name="glide-clip-text",
            kind="clip_text",
            config=CLIP_TEXT,
            image_size=0,
            schedule="cosine",
        ),
    )
    return MappingProxyType({each.name: each for each in (*unets, *clips, *classifiers)})


ARCHITECTURES: Mapping[str, Architecture] = _registry()


class _Options:
    """A golden file's or script's options; every one must be asked for, or stand for nothing here.

    Args:
        given: names and values.
        ignored: names that do not change a network's shape.
    """

    def __init__(self, given: Mapping[str, Any], ignored: frozenset[str]) -> None:
        self._given = dict(given)
        self._unread = set(given) - ignored

    def __call__(self, name: str, default: object = None) -> Any:
        """An option's value; null is as good as absent.

        Raises:
            CheckpointError: it is absent and has no default.
        """
        self._unread.discard(name)
        value = self._given.get(name)
        value = default if value is None else value
        if value is None:
            raise CheckpointError(f"the options lack {name}")
        return value

    def finish(self) -> None:
        """Refuses options that nobody asked for.

        Raises:
            CheckpointError: names them.
        """
        if self._unread:
            raise CheckpointError(f"unknown options: {', '.join(sorted(self._unread))}")


_PROCESS_OPTIONS = frozenset(
    ("diffusion_steps", "noise_schedule", "timestep_respacing", "use_fp16", "cache_text_emb")
)
_TEXT_OPTIONS = frozenset(
    ("text_ctx", "xf_layers", "xf_heads", "xf_final_ln", "xf_padding", "xf_ar", "share_unemb")
)
_ADM_IGNORED = frozenset(("use_checkpoint", "use_fp16", "dims", "image_size", "out_channels"))


def unet_from_glide_options(options: Mapping[str, Any]) -> UNet:
    """The network that GLIDE's `create_model_and_diffusion` makes of its arguments; random weights.

    Args:
        options: `attention_resolutions` in pixels and `channel_mult` are strings such as `32,16,8`.

    Raises:
        CheckpointError: an option is absent, unknown or of no use.
    """
    option = _Options(options, _PROCESS_OPTIONS | _TEXT_OPTIONS)
    side = int(option("image_size"))
    multipliers = _numbers(option("channel_mult")) or _multipliers(side)
    config = UNetConfig(
        out_channels=6,
        model_channels=option("num_channels"),
        channel_mult=multipliers,
        attention_factors=pixel_factors(side, _numbers(option("attention_resolutions"))),
        low_res=option("super_res"),
        inpainting=option("inpaint"),
        text=_glide_text(options) if option("xf_width") else None,
        **_shared_options(option),
    )
    option.finish()
    return build_unet(config)


def unet_from_adm_config(config: Mapping[str, Any], *, super_res: bool = False) -> UNet:
    """The network that ADM's `UNetModel` makes of its arguments; random weights.

    Args:
        config: `attention_resolutions` are downsampling factors, `channel_mult` a list.
        super_res: ADM's `SuperResModel`, whose first convolution also reads the low-res image.

    Raises:
        CheckpointError: an argument is absent, unknown or of no use.
    """
    option = _Options(config, _ADM_IGNORED)
    network = replace(_adm_trunk(option), classes=option("num_classes", 0), low_res=super_res)
    option.finish()
    return build_unet(network)


def classifier_from_adm_config(config: Mapping[str, Any]) -> NoisedClassifier:
    """The network that ADM's `EncoderUNetModel` makes of its arguments; random weights.

    Raises:
        CheckpointError: an argument is absent, unknown or of no use.
    """
    option = _Options(config, _ADM_IGNORED)
    trunk, pool = _adm_trunk(option), option("pool", "adaptive")
    option.finish()
    if pool not in get_args(Pool):
        raise CheckpointError(f"unknown pool {pool}; there are: {', '.join(get_args(Pool))}")
    if pool == "attention" and trunk.head_channels == -1:
        raise CheckpointError("pool attention needs num_head_channels")
    return NoisedClassifier(
        ClassifierConfig(trunk=trunk, image_size=option("image_size"), pool=pool)
    )


def clip_from_config(text: Mapping[str, Any], image: Mapping[str, Any]) -> NoisedClip:
    """The noised CLIP of the originals' arguments; random weights.

    Raises:
        CheckpointError: an argument is absent or unknown.
    """
    words, look = _Options(text, frozenset()), _Options(image, frozenset())
    config = ClipConfig(
        text=ClipTextConfig(
            vocabulary=words("n_bpe_vocab"), context=words("max_text_len"), **_clip_shape(words)
        ),
        image=ClipImageConfig(
            image_size=look("image_size"),
            patch=look("patch_size"),
            timesteps=look("n_timestep"),
            **_clip_shape(look),
        ),
    )
    words.finish()
    look.finish()
    return build_clip(config)


def _clip_shape(option: _Options) -> dict[str, int]:
    return {
        "embedding": option("n_embd"),
        "heads": option("n_head"),
        "head_channels": option("n_head_state"),
        "layers": option("n_xf_blocks"),
    }


def _shared_options(option: _Options) -> dict[str, Any]:
    """What GLIDE and ADM name alike, with ADM's defaults."""
    return {
        "residual_blocks": option("num_res_blocks"),
        "heads": option("num_heads", 1),
        "head_channels": option("num_head_channels", -1),
        "heads_upsample": option("num_heads_upsample", -1),
        "scale_shift": option("use_scale_shift_norm", False),
        "resblock_updown": option("resblock_updown", False),
        "dropout": option("dropout", 0.0),
    }


def _adm_trunk(option: _Options) -> UNetConfig:
    if option("dims", 2) != 2:
        raise CheckpointError("dims: only images, of 2, can be drawn")
    return UNetConfig(
        out_channels=option("out_channels"),
        model_channels=option("model_channels"),
        channel_mult=tuple(option("channel_mult", (1, 2, 4, 8))),
        attention_factors=tuple(option("attention_resolutions")),
        attention_order="new" if option("use_new_attention_order", False) else "legacy",
        conv_resample=option("conv_resample", True),
        image_channels=option("in_channels"),
        **_shared_options(option),
    )


def _glide_text(options: Mapping[str, Any]) -> TextConfig:
    option = _Options(options, frozenset(options))
    return TextConfig(
        vocabulary=GLIDE_TEXT.vocabulary,
        context=option("text_ctx"),
        width=option("xf_width"),
        layers=option("xf_layers"),
        heads=option("xf_heads"),
        final_norm=option("xf_final_ln"),
        padding=option("xf_padding"),
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",")) if text else ()


def _multipliers(side: int) -> tuple[float, ...]:
    try:
        return MULTIPLIERS[side]
    except KeyError:
        raise CheckpointError(f"image_size {side} needs a channel_mult") from None
