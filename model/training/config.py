"""TrainingConfig: everything that decides how a network is trained, read from TOML.

It travels inside every training state, so a run is resumed with the settings it was started with.
"""

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model.errors import ModelError
from model.networks.classifier import ClassifierConfig
from model.networks.clip import ClipConfig, ClipImageConfig, ClipTextConfig
from model.networks.unet import UNetConfig
from model.text.encoder import TextConfig

PRESETS = Path(__file__).parent / "presets"

Objective = Literal["denoising", "clip", "classifier"]
TrainedConfig = UNetConfig | ClipConfig | ClassifierConfig


class TrainingError(ModelError):
    """A training run that can't start or go on."""

    code = "training_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """One run.

    Attributes:
        stage: which network of the cascade; guides look at the base stage's images.
        vocabulary: the data set's words, `core` or `full`.
        resolution: side of the stage's image, px.
        crop: side of the training crops, px; equal to `resolution` for whole pictures.
        network: shape of the network; its text vocabulary is set from the tokenizer, and a
            classifier's number of classes from the data set.
        objective: what is trained: a stage by `denoising`, or one of its guides.
        schedule: noise schedule of the trained process.
        timesteps: T.
        prediction: what the network's output is trained to be.
        batch: pictures of an iteration.
        muon_lr: learning rate of the matrices inside the network (Muon).
        adam_lr: learning rate of everything else (AdamW).
        weight_decay: of both, decoupled.
        warmup: iterations of linear warm-up.
        clip_norm: largest norm of the whole gradient.
        ema_decay: of the averaged weights that are shipped, approached as (1 + i) / (10 + i).
        snr_gamma: γ of the min-SNR weight min(SNR, γ) of the x₀ error (Hang et al. 2023,
            arXiv:2303.09556, eq. 8).
        snr_floor: smallest weight. A short run needs it: the layout of a picture is decided where
            the SNR is far below 1, and min-SNR alone hardly trains there.
        high_noise_share: share of the timesteps drawn from the noisiest tenth of the process alone,
            half of these from its last quarter. Elsewhere the large plain areas of a small picture
            shine through the noise, and a network has no need of the caption.
        clean_share: share of a guide's pictures at t = 0 alone, where a CLIP ranks images.
        caption_dropout: share of captions replaced by the empty one (Ho & Salimans 2022).
        mask_rate: share of pictures of which some pixels are given (inpainting).
        low_res_noise: largest standard deviation of the noise on the low-res input (Ho et al. 2021,
            arXiv:2106.15282, §4.2, Gaussian conditioning augmentation).
        seed: of the weights, the data, the noise and the timesteps.
    """

    stage: Literal["base", "upsample"]
    vocabulary: Literal["core", "full"]
    resolution: int
    crop: int
    network: TrainedConfig
    objective: Objective = "denoising"
    schedule: Literal["cosine", "linear"] = "cosine"
    timesteps: int = 1000
    prediction: Literal["epsilon", "x0", "v"] = "x0"
    batch: int = 32
    muon_lr: float = 0.02
    adam_lr: float = 1e-3
    weight_decay: float = 0.0
    warmup: int = 200
    clip_norm: float = 1.0
    ema_decay: float = 0.9995
    snr_gamma: float = 5.0
    snr_floor: float = 0.0
    high_noise_share: float = 0.0
    clean_share: float = 0.0
    caption_dropout: float = 0.1
    mask_rate: float = 0.5
    low_res_noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        kinds = {"denoising": UNetConfig, "clip": ClipConfig, "classifier": ClassifierConfig}
        if not isinstance(self.network, kinds[self.objective]):
            raise TypeError(f"{self.objective} trains no {type(self.network).__name__}")
        if self.objective == "denoising":
            return
        for wrong, why in self._guide_checks():
            if wrong:
                raise ValueError(f"{self.objective}: {why}")

    @property
    def inpainting(self) -> bool:
        """Whether the network is given pixels."""
        return isinstance(self.network, UNetConfig) and self.network.inpainting

    def _guide_checks(self) -> Iterator[tuple[bool, str]]:
        """What is wrong with a guide's settings, or not."""
        yield self.stage != "base", "a guide leads the base stage"
        yield self.crop != self.resolution, "a guide looks at whole pictures: crop = resolution"
        yield self.caption_dropout > 0, "a guide needs its captions: caption_dropout = 0"
        shares = self.high_noise_share + self.clean_share
        yield not 0 <= shares <= 1, "high_noise_share and clean_share are more than everything"
        match self.network:
            case ClipConfig(text=text, image=image):
                yield text.embedding != image.embedding, "text and image embeddings differ in width"
                yield (
                    image.timesteps != self.timesteps,
                    f"not {self.timesteps} timesteps",
                )
                yield image.image_size != self.resolution, f"the image is {self.resolution} px wide"
            case ClassifierConfig(image_size=side):
                yield side != self.resolution, f"the image is {self.resolution} px wide"


def load_config(name: str) -> TrainingConfig:
    """Reads a TOML file, or a preset by its name.

    Raises:
        TrainingError: there is no such file, or it has missing, unknown or ill-typed members.
    """
    path = Path(name) if name.endswith(".toml") else PRESETS / f"{name}.toml"
    try:
        return config_from_record(tomllib.loads(path.read_text()))
    except FileNotFoundError as error:
        presets = ", ".join(sorted(preset.stem for preset in PRESETS.glob("*.toml")))
        raise TrainingError(f"there is no preset or file {name}; presets: {presets}") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TrainingError(f"{path} is not a training configuration: {error}") from error


def config_from_record(record: Mapping[str, Any]) -> TrainingConfig:
    """A configuration from nested mappings, as TOML and JSON give them.

    Raises:
        KeyError, TypeError, ValueError: missing, unknown, ill-typed or contradictory members.
    """
    members = dict(record)
    network: Mapping[str, Any] = members.pop("network")
    shape: TrainedConfig
    match members.get("objective", "denoising"):
        case "denoising":
            shape = _unet(network)
        case "clip":
            text = ClipTextConfig(**{"vocabulary": 0, **network["text"]})
            shape = ClipConfig(text=text, image=ClipImageConfig(**network["image"]))
        case "classifier":
            trunk = _unet({"out_channels": 0, **network["trunk"]})
            shape = ClassifierConfig(**{**network, "trunk": trunk})
        case other:
            raise ValueError(f"there is no objective {other!r}")
    return TrainingConfig(network=shape, **members)


def _unet(record: Mapping[str, Any]) -> UNetConfig:
    members = dict(record)
    if members.get("text") is not None:
        members["text"] = TextConfig(**{"vocabulary": 0, **members["text"]})
    for name in ("channel_mult", "attention_factors"):
        members[name] = tuple(members[name])
    return UNetConfig(**members)


def config_to_record(config: TrainingConfig) -> dict[str, Any]:
    """The inverse of `config_from_record`."""
    return dataclasses.asdict(config)
