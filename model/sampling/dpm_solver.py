"""DPM-Solver++ in its multistep form, orders 1 to 3, and its SDE: Lu et al. 2022, arXiv:2211.01095.

Data prediction. The last step goes to λ = ∞, the image itself, where only order 1 has a limit:
x = x̂₀; a run of one step is that one. Holds the paper's formulas; knows no tensors.
"""

import numpy as np

from model.diffusion.schedule import FloatArray, NoiseSchedule, Variance
from model.sampling.table import (
    NOISE,
    X0,
    X0_PREV_1,
    X0_PREV_2,
    X_T,
    UpdateTable,
    multistep_order,
)


def first_order(process: NoiseSchedule, *, eta: float, variance: Variance) -> UpdateTable:
    """DPM-Solver++(1): Lu et al. 2022, §4.1 with k = 1; the same update as DDIM with η = 0.

    Args:
        process: the process of the run's own timesteps.
        eta: not a parameter of this sampler.
        variance: not a parameter of this sampler.
    """
    return _multistep(process, 1)


def second_order_multistep(
    process: NoiseSchedule, *, eta: float, variance: Variance
) -> UpdateTable:
    """DPM-Solver++(2M): Lu et al. 2022, algorithm 2.

    Args:
        process: the process of the run's own timesteps.
        eta: not a parameter of this sampler.
        variance: not a parameter of this sampler.
    """
    return _multistep(process, 2)


def third_order_multistep(process: NoiseSchedule, *, eta: float, variance: Variance) -> UpdateTable:
    """DPM-Solver++(3M): the multistep solver of order 3 of the authors' program.

    It gives the quadratic term of the parabola through the last three x̂₀ half the weight that the
    integral of Lu et al. 2022, proposition 4.1, has. That is what everyone calls 3M; `unipc_3`
    predicts with the whole weight.

    Args:
        process: the process of the run's own timesteps.
        eta: not a parameter of this sampler.
        variance: not a parameter of this sampler.
    """
    return _multistep(process, 3)


def second_order_multistep_sde(
    process: NoiseSchedule, *, eta: float, variance: Variance
) -> UpdateTable:
    """SDE-DPM-Solver++(2M): Lu et al. 2022, appendix on the diffusion SDE; no noise at the end.

    Args:
        process: the process of the run's own timesteps.
        eta: not a parameter of this sampler: it is the SDE's own noise.
        variance: not a parameter of this sampler.
    """
    alpha, sigma = process.sqrt_alpha_bar, process.sqrt_one_minus_alpha_bar
    rows = []
    for t in range(process.timesteps - 1, 0, -1):
        h = process.lambdas[t - 1] - process.lambdas[t]
        gone = -np.expm1(-2 * h)  # the share of x_t's noise that is drawn anew
        kept = np.exp(-h) * sigma[t - 1] / sigma[t]
        d = _midpoint(process.lambdas, t, multistep_order(process.timesteps, t, 2))
        rows.append(kept * X_T + alpha[t - 1] * gone * d + sigma[t - 1] * np.sqrt(gone) * NOISE)
    rows.append(X0)
    return UpdateTable(np.array(rows))


def _multistep(process: NoiseSchedule, highest: int) -> UpdateTable:
    alpha, sigma = process.sqrt_alpha_bar, process.sqrt_one_minus_alpha_bar
    rows = []
    for t in range(process.timesteps - 1, 0, -1):
        order = multistep_order(process.timesteps, t, highest)
        if order == 3:
            image = _parabola(process.lambdas, t)
        else:
            h = process.lambdas[t - 1] - process.lambdas[t]
            image = -np.expm1(-h) * _midpoint(process.lambdas, t, order)
        rows.append(sigma[t - 1] / sigma[t] * X_T + alpha[t - 1] * image)
    rows.append(X0)
    return UpdateTable(np.array(rows))


def _midpoint(lambdas: FloatArray, t: int, order: int) -> FloatArray:
    """x̂₀ in the middle of the step, along the line through the last two."""
    if order == 1:
        return X0
    r = (lambdas[t] - lambdas[t + 1]) / (lambdas[t - 1] - lambdas[t])
    middle: FloatArray = X0 + (X0 - X0_PREV_1) / (2 * r)
    return middle


def _parabola(lambdas: FloatArray, t: int) -> FloatArray:
    """∫ h e^{-h (1 - u)} p(u) du over (0, 1), p(0), p(-r₀), p(-r₀ - r₁) being the last x̂₀.

    Of the square, half.
    """
    h = lambdas[t - 1] - lambdas[t]
    r0, r1 = (lambdas[t] - lambdas[t + 1]) / h, (lambdas[t + 1] - lambdas[t + 2]) / h
    slope_0, slope_1 = (X0 - X0_PREV_1) / r0, (X0_PREV_1 - X0_PREV_2) / r1
    square = (slope_0 - slope_1) / (r0 + r1)
    line = slope_0 + r0 * square
    of_one = -np.expm1(-h)  # the integrals of 1, u and u²
    of_line = 1 - of_one / h
    of_square = 1 - 2 * of_line / h
    integral: FloatArray = of_one * X0 + of_line * line + of_square / 2 * square
    return integral
