"""DPM-Solver++: Lu et al. 2022, arXiv:2211.01095.

Holds the paper's formulas; knows no tensors.
"""

import numpy as np

from model.diffusion.schedule import NoiseSchedule, Variance
from model.sampling.table import X0, X0_PREV_1, X_T, UpdateTable


def second_order_multistep(
    process: NoiseSchedule, *, eta: float, variance: Variance
) -> UpdateTable:
    """DPM-Solver++(2M): Lu et al. 2022, algorithm 2, data prediction.

    The first step has no history and the last one goes to λ = ∞, the image itself, where only
    order 1 has a limit: x = x̂₀. A run of one step is that step.

    Args:
        process: the process of the run's own timesteps.
        eta: not a parameter of this sampler.
        variance: not a parameter of this sampler.
    """
    alpha, sigma = process.sqrt_alpha_bar, process.sqrt_one_minus_alpha_bar
    lambdas = process.lambdas
    first = process.timesteps - 1
    rows = []
    for t in range(first, 0, -1):
        h = lambdas[t - 1] - lambdas[t]
        d = X0
        if t < first:
            r = (lambdas[t] - lambdas[t + 1]) / h
            d = (1 + 1 / (2 * r)) * X0 - 1 / (2 * r) * X0_PREV_1
        rows.append(sigma[t - 1] / sigma[t] * X_T - alpha[t - 1] * np.expm1(-h) * d)
    rows.append(X0)
    return UpdateTable(np.array(rows))
