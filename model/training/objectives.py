"""Objectives: what a network is trained for: denoising, or guiding by caption or by class.

Each is a loss of one noising of a batch, random by torch's generator alone. Knows no optimizer and
no iteration.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.conditioning import Conditioning
from model.diffusion.losses import diffuse, gather, min_snr_weight, training_losses
from model.diffusion.prediction import Parameterization
from model.diffusion.schedule import NoiseSchedule, noise_schedule
from model.networks.classifier import NoisedClassifier
from model.networks.clip import LOGIT_SCALE, NoisedClip
from model.networks.text_unet import TextUNet
from model.training.config import TrainingConfig
from model.training.data import Batch


class Objective(Protocol):
    """Something to be made small."""

    def loss(self, batch: Batch) -> Tensor:
        """A scalar, for the timesteps and the noise that torch's generator draws next."""
        ...


def build_objective(config: TrainingConfig, network: nn.Module) -> Objective:
    """The objective of a configuration.

    Args:
        config: says which.
        network: of the kind that the objective trains.
    """
    match config.objective, network:
        case "denoising", TextUNet():
            return Denoising(config, network)
        case "clip", NoisedClip():
            return Contrastive(config, network)
        case "classifier", NoisedClassifier():
            return Classification(config, network)
    raise TypeError(f"{config.objective} trains no {type(network).__name__}")


class Denoising:
    """The weighted error of the network's prediction (Ho et al. 2020; Hang et al. 2023)."""

    def __init__(self, config: TrainingConfig, network: TextUNet) -> None:
        self._config = config
        self._network = network
        self._parameterization = Parameterization(
            prediction=config.prediction,
            variance="fixed_small",
            schedule=noise_schedule(config.schedule, config.timesteps),
        )

    def loss(self, batch: Batch) -> Tensor:
        """As `Objective`."""
        schedule, config = self._parameterization.schedule, self._config
        x_0 = batch.x0.to(memory_format=torch.channels_last)
        t = draw_timesteps(config, x_0)
        noise = torch.randn_like(x_0)
        alpha_bar = gather(schedule.alpha_bar, t)
        x_t = diffuse(x_0, noise, alpha_bar)
        with _narrow(x_t):
            pooled, keys_values = self._network.encode_text(batch.tokens, batch.token_mask)
            conditioning = Conditioning(
                pooled=pooled,
                keys_values=keys_values,
                low_res=batch.low_res,
                image=x_0 if config.inpainting else None,
                mask=batch.known if config.inpainting else None,
            )
            output = self._network(x_t, t, conditioning)
        weight = min_snr_weight(config.prediction, alpha_bar, config.snr_gamma)
        snr = alpha_bar / (1 - alpha_bar)
        weight = weight * (config.snr_floor / snr).clamp(min=1)
        losses = training_losses(output.float(), x_0, noise, t, self._parameterization, weight)
        return losses.total.mean()


class Contrastive:
    """Which caption is which noised picture's, and the reverse (Radford et al. 2021, §2.3).

    With noised pictures as in Nichol et al. 2021, §2.3 (arXiv:2112.10741), and the fixed scale that
    guidance uses. Pictures with the same caption are no negatives of each other.
    """

    def __init__(self, config: TrainingConfig, network: NoisedClip) -> None:
        self._config = config
        self._network = network
        self._schedule = noise_schedule(config.schedule, config.timesteps)

    def loss(self, batch: Batch) -> Tensor:
        """As `Objective`."""
        x_t, t = noised(self._config, self._schedule, batch.x0)
        lengths = batch.token_mask.sum(dim=1)
        tokens = batch.tokens[:, : int(lengths.max())]  # nothing reads what comes after the end
        with _narrow(x_t):
            images = self._network.encode_image(x_t, t)
            captions = self._network.encode_text(tokens, lengths)
        return contrastive_loss(images.float(), captions.float(), batch.tokens)


class Classification:
    """The cross-entropy of a noised picture's class (Dhariwal & Nichol 2021, §4.1)."""

    def __init__(self, config: TrainingConfig, network: NoisedClassifier) -> None:
        self._config = config
        self._network = network
        self._schedule = noise_schedule(config.schedule, config.timesteps)

    def loss(self, batch: Batch) -> Tensor:
        """As `Objective`."""
        x_t, t = noised(self._config, self._schedule, batch.x0)
        with _narrow(x_t):
            logits = self._network(x_t, t)
        return F.cross_entropy(logits.float(), batch.label)


def contrastive_loss(images: Tensor, captions: Tensor, tokens: Tensor) -> Tensor:
    """The symmetric cross-entropy of `LOGIT_SCALE` · <image, caption>: a scalar.

    Args:
        images: (B, E) unit vectors.
        captions: (B, E) unit vectors.
        tokens: (B, L) of the captions; rows that are equal do not compete.
    """
    logits = LOGIT_SCALE * images @ captions.T
    same = (tokens[:, None] == tokens[None]).all(dim=-1)
    others_same = same & ~torch.eye(len(tokens), dtype=torch.bool, device=same.device)
    logits = logits.masked_fill(others_same, float("-inf"))
    own = torch.arange(len(tokens), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def noised(config: TrainingConfig, schedule: NoiseSchedule, x_0: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, H, W) at random timesteps of the process, and these (B,), for a guide."""
    t = draw_timesteps(config, x_0)
    clean = torch.rand(len(t), device=t.device) < config.clean_share
    t = torch.where(clean, 0, t)
    return diffuse(x_0, torch.randn_like(x_0), gather(schedule.alpha_bar, t)), t


def draw_timesteps(config: TrainingConfig, x_0: Tensor) -> Tensor:
    """(B,) uniform timesteps, but a share of them in the noisiest tenth, denser to its end."""
    batch, timesteps, device = len(x_0), config.timesteps, x_0.device
    t = torch.randint(0, timesteps, (batch,), device=device)
    from_the_end = torch.rand(batch, device=device).square() * timesteps / 10
    noisiest = torch.rand(batch, device=device) < config.high_noise_share
    return torch.where(noisiest, timesteps - 1 - from_the_end.long(), t)


def _narrow(x: Tensor) -> torch.autocast:
    """A network's arithmetic in bfloat16 where that is faster: on CUDA."""
    return torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda)
