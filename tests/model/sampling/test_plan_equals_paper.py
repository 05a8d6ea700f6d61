"""Every sampler's table, carried out by the denoising step, against its paper's own loop."""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.conditioning import Conditioning
from model.diffusion.prediction import Parameterization
from model.diffusion.schedule import Variance, noise_schedule
from model.diffusion.spacing import space_timesteps, trailing_timesteps
from model.params import SamplerName, Thresholding
from model.sampling.noise import noise
from model.sampling.plan import SamplingPlan, build_plan
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory

Array = NDArray[np.float64]
SHAPE = (3, 4, 4)
SEED = 12
SPECS: tuple[int | str, ...] = (1, 2, 3, 20, "1", "25,25", "ddim50", "fast27")


def network(x: Array, t: int) -> tuple[Array, Array]:
    """x̂₀ and, between -1 and 1 for the most part, the place of log σ² between its bounds."""
    x_0 = np.tanh(1.3 * x + np.sin(t / 97)) + 0.2 * np.cos(3 * x)
    return x_0, np.sin(2 * x - t / 50) * 1.1


def alpha_bars(name: str) -> Array:
    """ᾱ_t of Ho et al. 2020, §4, and of Nichol & Dhariwal 2021, eq. 17; T = 1000."""
    alpha_bar, found = 1.0, []
    for t in range(1000):
        if name == "linear":
            beta = 1e-4 + (0.02 - 1e-4) * t / 999
        else:
            f = [math.cos((u / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for u in (t, t + 1)]
            beta = min(1 - f[1] / f[0], 0.999)
        alpha_bar *= 1 - beta
        found.append(alpha_bar)
    return np.array(found)


def draw(step: int) -> Array:
    return noise(SEED, 0, step, SHAPE).double().numpy()


def ddpm(a: Array, grid: list[int], x: Array, variance: Variance) -> list[Array]:
    """Ho et al. 2020, eqs. 6 and 7, algorithm 2; Nichol & Dhariwal 2021, eq. 15."""
    states = []
    for step, t in enumerate(grid):
        last = step == len(grid) - 1
        a_t, a_s = a[t], 1.0 if last else a[grid[step + 1]]
        alpha = a_t / a_s
        beta, beta_tilde = 1 - alpha, (1 - a_s) / (1 - a_t) * (1 - alpha)
        x_0, v = network(x, t)
        mean = np.sqrt(a_s) * beta / (1 - a_t) * x_0
        mean += np.sqrt(alpha) * (1 - a_s) / (1 - a_t) * x
        if last:
            x = mean
        elif variance == "learned_range":
            f = (v + 1) / 2
            sigma = np.exp((f * np.log(beta) + (1 - f) * np.log(beta_tilde)) / 2)
            x = mean + sigma * draw(step)
        else:
            x = mean + np.sqrt(beta if variance == "fixed_large" else beta_tilde) * draw(step)
        states.append(x)
    return states


def ddim(a: Array, grid: list[int], x: Array, eta: float) -> list[Array]:
    """Song et al. 2021, eqs. 9, 12 and 16."""
    states = []
    for step, t in enumerate(grid):
        a_t, a_s = a[t], 1.0 if step == len(grid) - 1 else a[grid[step + 1]]
        x_0, _ = network(x, t)
        eps = (x - np.sqrt(a_t) * x_0) / np.sqrt(1 - a_t)
        sigma = eta * np.sqrt((1 - a_s) / (1 - a_t)) * np.sqrt(1 - a_t / a_s)
        rest = rest_of_variance(Decimal(a_t), Decimal(a_s), Decimal(eta))
        x = np.sqrt(a_s) * x_0 + np.sqrt(rest) * eps + sigma * draw(step)
        states.append(x)
    return states


def rest_of_variance(a_t: Decimal, a_s: Decimal, eta: Decimal) -> float:
    """1 - ᾱ_s - σ² cancels to nothing in floats."""
    return float(max(1 - a_s - eta**2 * (1 - a_s) / (1 - a_t) * (1 - a_t / a_s), Decimal(0)))


def dpm_solver_pp_2m(a: Array, grid: list[int], x: Array) -> list[Array]:
    """Lu et al. 2022 (DPM-Solver++), algorithm 2; to the image itself by order 1 at λ = ∞."""
    alpha, sigma = np.sqrt(a), np.sqrt(1 - a)
    lam = np.log(alpha) - np.log(sigma)
    states: list[Array] = []
    before: Array | None = None
    for step, t in enumerate(grid):
        x_0, _ = network(x, t)
        if step == len(grid) - 1:
            x = x_0
        else:
            s = grid[step + 1]
            h = lam[s] - lam[t]
            d = x_0
            if before is not None:
                r = (lam[t] - lam[grid[step - 1]]) / h
                d = (1 + 1 / (2 * r)) * x_0 - before / (2 * r)
            x = sigma[s] / sigma[t] * x - alpha[s] * (np.exp(-h) - 1) * d
        before = x_0
        states.append(x)
    return states


def orders(highest: int, steps: int) -> list[int]:
    """1, 2, … while history grows; … 2, 1 at the end."""
    return [min(highest, step + 1, steps - step) for step in range(steps)]


def integral(start: float, end: float, nodes: list[tuple[float, Array]]) -> Array:
    """∫ e^(λ - end) p(λ) dλ, p the polynomial through the nodes, by Gauss's quadrature."""
    points, shares = np.polynomial.legendre.leggauss(48)
    total = np.zeros(SHAPE)
    for point, share in zip(points, shares, strict=True):
        lam = start + (end - start) * (point + 1) / 2
        p = sum(
            math.prod((lam - other) / (here - other) for other, _ in nodes if other != here) * image
            for here, image in nodes
        )
        total += share * (end - start) / 2 * np.exp(lam - end) * p
    return total


def dpm_solver_pp(a: Array, grid: list[int], x: Array, highest: int) -> list[Array]:
    """Lu et al. 2022 (DPM-Solver++), §4: differences of x̂₀ for its derivatives by λ.

    Order 3 as in the authors' program, whose D₂ is half the second derivative.
    """
    alpha, sigma = np.sqrt(a), np.sqrt(1 - a)
    lam = np.log(alpha) - np.log(sigma)
    states: list[Array] = []
    images: list[Array] = []
    for step, (t, order) in enumerate(zip(grid, orders(highest, len(grid)), strict=True)):
        images.append(network(x, t)[0])
        if step == len(grid) - 1:
            x = images[-1]
        else:
            s = grid[step + 1]
            h = lam[s] - lam[t]
            phi = [np.exp(-h) - 1, (np.exp(-h) - 1) / h + 1, (np.exp(-h) - 1 + h) / h**2 - 0.5]
            x = sigma[s] / sigma[t] * x - alpha[s] * phi[0] * images[-1]
            if order == 2:
                r0 = (lam[t] - lam[grid[step - 1]]) / h
                x = x - alpha[s] * phi[0] * (images[-1] - images[-2]) / r0 / 2
            if order == 3:
                r0 = (lam[t] - lam[grid[step - 1]]) / h
                r1 = (lam[grid[step - 1]] - lam[grid[step - 2]]) / h
                d10, d11 = (images[-1] - images[-2]) / r0, (images[-2] - images[-3]) / r1
                d1 = d10 + r0 / (r0 + r1) * (d10 - d11)
                d2 = (d10 - d11) / (r0 + r1)
                x = x + alpha[s] * phi[1] * d1 - alpha[s] * phi[2] * d2
        states.append(x)
    return states


def dpm_solver_pp_2m_sde(a: Array, grid: list[int], x: Array) -> list[Array]:
    """Lu et al. 2022 (DPM-Solver++), SDE-DPM-Solver++(2M)."""
    alpha, sigma = np.sqrt(a), np.sqrt(1 - a)
    lam = np.log(alpha) - np.log(sigma)
    states: list[Array] = []
    before: Array | None = None
    for step, t in enumerate(grid):
        x_0, _ = network(x, t)
        if step == len(grid) - 1:
            x = x_0
        else:
            s = grid[step + 1]
            h = lam[s] - lam[t]
            d = x_0
            if before is not None:
                r = (lam[t] - lam[grid[step - 1]]) / h
                d = (1 + 1 / (2 * r)) * x_0 - before / (2 * r)
            x = sigma[s] / sigma[t] * np.exp(-h) * x + alpha[s] * (1 - np.exp(-2 * h)) * d
            x = x + sigma[s] * np.sqrt(1 - np.exp(-2 * h)) * draw(step)
        before = x_0
        states.append(x)
    return states


def unipc(a: Array, grid: list[int], x: Array, highest: int) -> list[Array]:
    """Zhao et al. 2023, algorithms 5 and 6; B(h) = e^h - 1.

    With all its unknowns solved for, an update integrates the polynomial through its points; with
    one unknown, a = 1/2. The corrected state is kept apart here.
    """
    alpha, sigma = np.sqrt(a), np.sqrt(1 - a)
    lam = np.log(alpha) - np.log(sigma)
    every = orders(highest, len(grid))
    states: list[Array] = []
    images: list[Array] = []
    corrected = x

    def moved(step: int, state: Array, nodes: list[tuple[float, Array]]) -> Array:
        t, s = grid[step], grid[step + 1]
        h = lam[s] - lam[t]
        if len(nodes) == 2:
            (_, here), (other, there) = nodes
            ratio = (other - lam[t]) / h
            added = (1 - np.exp(-h)) * (here + 0.5 * (there - here) / ratio)
        else:
            added = integral(lam[t], lam[s], nodes)
        result: Array = sigma[s] / sigma[t] * state + alpha[s] * added
        return result

    for step, t in enumerate(grid):
        images.append(network(x, t)[0])
        if step > 0:
            nodes = [(lam[grid[step - 1 - j]], images[-2 - j]) for j in range(every[step - 1])]
            corrected = moved(step - 1, corrected, [*nodes, (lam[t], images[-1])])
        if step == len(grid) - 1:
            x = images[-1]
        else:
            nodes = [(lam[grid[step - j]], images[-1 - j]) for j in range(every[step])]
            x = moved(step, corrected, nodes)
        states.append(x)
    return states


def denoiser(x_t: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    rows = [np.concatenate(network(x.numpy(), int(k))) for x, k in zip(x_t, t, strict=True)]
    return torch.from_numpy(np.stack(rows))


def carry_out(plan: SamplingPlan, start: Array, schedule: str) -> list[Array]:
    trajectory = Trajectory(
        plan=plan,
        x=torch.from_numpy(start),
        conditioning=Conditioning(),
        thresholding=Thresholding.NONE,
        seed=SEED,
    )
    trained = noise_schedule("linear" if schedule == "linear" else "cosine", 1000)
    parameterization = Parameterization("x0", "learned_range", trained)
    states = []
    while not trajectory.done:
        denoise_step(denoiser, [trajectory], parameterization)
        states.append(trajectory.x.numpy())
    return states


def assert_same(states: list[Array], reference: list[Array], largest_weight: float) -> None:
    assert len(states) == len(reference) > 0
    for state, wanted in zip(states, reference, strict=True):
        assert np.max(np.abs(state - wanted)) <= 1e-12 * max(1, largest_weight)


Loop = Callable[[Array, list[int], Array], list[Array]]
CASES: dict[str, tuple[SamplerName, dict[str, Any], Loop]] = {
    "ddpm small": (
        SamplerName.DDPM,
        {"variance": "fixed_small"},
        lambda a, grid, x: ddpm(a, grid, x, "fixed_small"),
    ),
    "ddpm large": (
        SamplerName.DDPM,
        {"variance": "fixed_large"},
        lambda a, grid, x: ddpm(a, grid, x, "fixed_large"),
    ),
    "ddpm learned": (
        SamplerName.DDPM,
        {"variance": "learned_range"},
        lambda a, grid, x: ddpm(a, grid, x, "learned_range"),
    ),
    "ddim 0": (SamplerName.DDIM, {"eta": 0.0}, lambda a, grid, x: ddim(a, grid, x, 0.0)),
    "ddim half": (SamplerName.DDIM, {"eta": 0.5}, lambda a, grid, x: ddim(a, grid, x, 0.5)),
    "ddim 1": (SamplerName.DDIM, {"eta": 1.0}, lambda a, grid, x: ddim(a, grid, x, 1.0)),
    "dpmpp 2m": (SamplerName.DPMPP_2M, {}, dpm_solver_pp_2m),
    "dpmpp 1": (SamplerName.DPMPP_1, {}, lambda a, grid, x: dpm_solver_pp(a, grid, x, 1)),
    "dpmpp 3m": (SamplerName.DPMPP_3M, {}, lambda a, grid, x: dpm_solver_pp(a, grid, x, 3)),
    "dpmpp 2m sde": (SamplerName.DPMPP_2M_SDE, {}, dpm_solver_pp_2m_sde),
    "unipc 2": (SamplerName.UNIPC, {}, lambda a, grid, x: unipc(a, grid, x, 2)),
    "unipc 3": (SamplerName.UNIPC_3, {}, lambda a, grid, x: unipc(a, grid, x, 3)),
}


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("steps", SPECS)
@pytest.mark.parametrize("case", CASES)
def test_plan_equals_paper(case: str, steps: int | str, schedule: str) -> None:
    sampler, options, loop = CASES[case]
    trained = noise_schedule("linear" if schedule == "linear" else "cosine", 1000)
    plan = build_plan(sampler, trained, steps, **options)
    even = isinstance(steps, str) or sampler in (SamplerName.DDPM, SamplerName.DDIM)
    grid = space_timesteps(steps, 1000) if even else trailing_timesteps(int(steps), 1000)
    assert plan.timesteps.tolist() == list(grid[::-1])
    start = np.random.default_rng(len(grid)).standard_normal(SHAPE)
    a = alpha_bars(schedule)
    states, reference = carry_out(plan, start, schedule), loop(a, list(grid[::-1]), start)
    assert_same(states, reference, np.max(np.abs(plan.weights)))
