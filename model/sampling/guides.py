"""Networks whose gradient leads a run: noised CLIP and noised classifier.

Each says towards which x_t the likelihood of a caption or a class grows. Knows no trajectory and no
network: how strongly it acts, and on what, is `model.sampling.step`'s business.
"""

from typing import Protocol

import torch
from torch import Tensor

from model.conditioning import Conditioning
from model.errors import ConditioningError

LOGIT_SCALE = 100.0
"""exp of the logarithm that OpenAI's noised CLIP was trained with, which its files do not hold."""


class Guide(Protocol):
    """The gradient of a log-likelihood."""

    def __call__(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """(B, C, H, W) ∂/∂x_t of Σ_b log p(wanted_b | x_t, t), without any scale.

        A row's gradient must not depend on the other rows. Called where gradients are off.

        Args:
            x_t: (B, C, H, W).
            t: (B,) int64 timesteps of the trained process.
            conditioning: of those B rows; holds their `label` and `clip_text` alone.
        """
        ...


class NoisedImageEncoder(Protocol):
    """The image half of a noised CLIP."""

    def encode_image(self, x: Tensor, t: Tensor, /) -> Tensor:
        """(B, E) features of x: (B, C, H, W) at timesteps t: (B,)."""
        ...


class NoisedImageClassifier(Protocol):
    """A classifier of noised images."""

    def __call__(self, x: Tensor, t: Tensor, /) -> Tensor:
        """(B, classes) logits of x: (B, C, H, W) at timesteps t: (B,)."""
        ...


class ClipGuide:
    """∂/∂x_t of 100 <z_text, z_image(x_t, t)>: Nichol et al. 2021, §2.3, arXiv:2112.10741.

    Args:
        network: whose features are compared; its parameters should be frozen.
    """

    def __init__(self, network: NoisedImageEncoder) -> None:
        self._network = network

    def __call__(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """As `Guide`; rows without `clip_text`, which are zeros, have no gradient.

        Raises:
            ConditioningError: no row has a caption to compare with.
        """
        if conditioning.clip_text is None:
            raise ConditioningError("CLIP guidance needs the caption's CLIP features.")
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            features = self._network.encode_image(x, t)
            unit = features / (features.norm(dim=-1, keepdim=True) + 1e-12)
            alike = LOGIT_SCALE * (unit * conditioning.clip_text.to(unit)).sum()
            return torch.autograd.grad(alike, x)[0]


class ClassifierGuide:
    """∂/∂x_t of log p(label | x_t, t): Dhariwal & Nichol 2021, §4, arXiv:2105.05233.

    Args:
        network: gives the logits; its parameters should be frozen.
    """

    def __init__(self, network: NoisedImageClassifier) -> None:
        self._network = network

    def __call__(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """As `Guide`.

        Raises:
            ConditioningError: no row has a label.
        """
        if conditioning.label is None:
            raise ConditioningError("Classifier guidance needs a label.")
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            log_p = self._network(x, t).float().log_softmax(dim=-1)
            wanted = log_p.gather(1, conditioning.label.reshape(-1, 1)).sum()
            return torch.autograd.grad(wanted, x)[0]
