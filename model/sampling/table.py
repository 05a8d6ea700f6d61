"""The language that samplers are written in: a step is a weighted sum of a few tensors.

The tensors are a step's basis; a sampler's file evaluates its paper's formulas on the basis' unit
vectors, and the numbers that come out are the weights. Knows no sampler and no tensors.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from model.diffusion.schedule import FloatArray

HISTORY = 3
"""How many earlier x̂₀ a step may use."""

X_T, X0, X0_PREV_1, X0_PREV_2, X0_PREV_3, NOISE = np.eye(HISTORY + 3)

GradientTarget = Literal["x0", "bounded_x0", "x_s"]
"""What the gradient g of a guide moves, and when.

`x_s`: by σ² g (Dhariwal & Nichol 2021, algorithm 1, arXiv:2105.05233). `bounded_x0`: x̂₀ by
(1 - ᾱ) / √ᾱ g, which is ε̂ by -√(1 - ᾱ) g (algorithm 2), after x̂₀ was bounded, as in their program.
`x0`: the same before it is bounded, as classifier-free guidance is. Where ᾱ is nearly 0 the factor
is 10⁴ and more, and a solver that extrapolates would blow up any fault of the guide's.
"""


@dataclass(frozen=True, slots=True, eq=False)
class UpdateTable:
    """The updates of a run of S steps, in the order they are taken.

    Attributes:
        weights: (S, K) float64, in the order of this module's unit vectors.
        log_beta: (S,) float64, or None where the weights hold the noise's standard deviation. With
            it, the noise's weight is a factor of a standard deviation that the network chooses for
            each pixel between √β̃ and √β.
        log_beta_tilde: (S,) float64, or None as `log_beta`.
        gradient_moves: what a guide's gradient moves.
        gradient_variance: (S,) float64, σ² where that is x_s, else None. With `log_beta` it is a
            factor of the variance that the network chooses.
    """

    weights: FloatArray
    log_beta: FloatArray | None = None
    log_beta_tilde: FloatArray | None = None
    gradient_moves: GradientTarget = "x0"
    gradient_variance: FloatArray | None = None


def multistep_order(steps: int, t: int, highest: int) -> int:
    """The order of the step from t to t - 1 of a run's own timesteps.

    It rises from 1 while history grows, and falls to 1 for the step to the image itself, at λ = ∞.

    Args:
        steps: S, the length of the run.
        t: S - 1 … 0, where the step starts.
        highest: the sampler's order.
    """
    return min(highest, steps - t, t + 1)
