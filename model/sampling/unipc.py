"""UniPC: Zhao, Bai, Rao, Zhou & Lu 2023, arXiv:2302.04867.

Data prediction with B(h) = e^h - 1. The corrector uses the network's answer at the predicted point,
so a step needs one evaluation: what a run keeps is the predicted x, and each row first corrects it
and then predicts the next. Both are sums over the same x̂₀, hence one row. A run ends with x = x̂₀.
Holds the paper's formulas; knows no tensors.
"""

import math
from collections.abc import Sequence

import numpy as np

from model.diffusion.schedule import FloatArray, NoiseSchedule, Variance
from model.sampling.table import (
    X0,
    X0_PREV_1,
    X0_PREV_2,
    X0_PREV_3,
    X_T,
    UpdateTable,
    multistep_order,
)

IMAGES = (X0, X0_PREV_1, X0_PREV_2, X0_PREV_3)


def second_order(process: NoiseSchedule, *, eta: float, variance: Variance) -> UpdateTable:
    """UniPC-2: Zhao et al. 2023, algorithms 5 and 6, multistep.

    Args:
        process: the process of the run's own timesteps.
        eta: not a parameter of this sampler.
        variance: not a parameter of this sampler.
    """
    return _predict_and_correct(process, 2)


def third_order(process: NoiseSchedule, *, eta: float, variance: Variance) -> UpdateTable:
    """UniPC-3: as `second_order`.

    Args:
        process: the process of the run's own timesteps.
        eta: not a parameter of this sampler.
        variance: not a parameter of this sampler.
    """
    return _predict_and_correct(process, 3)


def _predict_and_correct(process: NoiseSchedule, highest: int) -> UpdateTable:
    alpha, sigma = process.sqrt_alpha_bar, process.sqrt_one_minus_alpha_bar
    lambdas, steps = process.lambdas, process.timesteps
    rows = []
    for t in range(steps - 1, 0, -1):
        x = X_T
        if t < steps - 1:
            before = IMAGES[1 : 1 + multistep_order(steps, t + 1, highest)]
            corrected = _difference(lambdas, t + 1, before, target=X0)
            x = x + alpha[t] * (corrected - _difference(lambdas, t + 1, before))
        known = IMAGES[: multistep_order(steps, t, highest)]
        ahead = _difference(lambdas, t, known) - np.expm1(lambdas[t] - lambdas[t - 1]) * X0
        rows.append(sigma[t - 1] / sigma[t] * x + alpha[t - 1] * ahead)
    rows.append(X0)
    return UpdateTable(np.array(rows))


def _difference(
    lambdas: FloatArray, t: int, images: Sequence[FloatArray], target: FloatArray | None = None
) -> FloatArray:
    """-B(-h) Σ a_m D_m / r_m of the step from t to t - 1; per unit of its α.

    Args:
        lambdas: of the process.
        t: where the step starts.
        images: x̂₀ of t, t + 1, …: as many as the order.
        target: x̂₀ of t - 1 for the corrector, None for the predictor.
    """
    h = lambdas[t - 1] - lambdas[t]
    ratios = [(lambdas[t + age] - lambdas[t]) / h for age in range(1, len(images))]
    points = list(images[1:])
    if target is not None:
        ratios.append(1.0)
        points.append(target)
    total = np.zeros_like(X0)
    for a, r, image in zip(_coefficients(h, ratios), ratios, points, strict=True):
        total = total - np.expm1(-h) * a * (image - images[0]) / r
    return total


def _coefficients(h: float, ratios: Sequence[float]) -> FloatArray:
    """Solves R a = φ / B: Zhao et al. 2023, eq. 5; for one unknown, a = 1/2 fits every B."""
    if len(ratios) == 1:
        return np.array([0.5])
    b, phi = [], np.expm1(-h)
    for k in range(1, len(ratios) + 1):
        phi = -phi / h - 1 / math.factorial(k)
        b.append(phi * math.factorial(k) / np.expm1(-h))
    return np.linalg.solve(np.vander(ratios, increasing=True).T, np.array(b))
