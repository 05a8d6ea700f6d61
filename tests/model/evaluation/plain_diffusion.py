"""The diffusion of GLIDE and ADM written down plainly, in float64; nothing of `model` is used."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Table = NDArray[np.float64]


def betas_of(name: str, timesteps: int) -> Table:
    if name == "linear":
        scale = 1000 / timesteps
        return np.linspace(scale * 1e-4, scale * 0.02, timesteps)

    def left(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    pairs = [(i / timesteps, (i + 1) / timesteps) for i in range(timesteps)]
    return np.array([min(1 - left(b) / left(a), 0.999) for a, b in pairs])


def kept_timesteps(spec: str, timesteps: int) -> list[int]:
    if spec.startswith("ddim"):
        for stride in range(1, timesteps):
            if len(range(0, timesteps, stride)) == int(spec[4:]):
                return list(range(0, timesteps, stride))
    if spec == "fast27":
        found = set(kept_timesteps("10,10,3,2,2", timesteps))
        return sorted((found - {timesteps - 1}) | {timesteps - 3})
    counts = [int(each) for each in spec.split(",")] if spec else [timesteps]
    kept, start = [], 0
    for index, count in enumerate(counts):
        size = timesteps // len(counts) + (index < timesteps % len(counts))
        place = 0.0
        for _ in range(count):
            kept.append(start + round(place))
            place += (size - 1) / (count - 1) if count > 1 else 1
        start += size
    return kept


class Process:
    """A trained process, or, with a respacing, the one that visits some of its timesteps."""

    def __init__(self, name: str, timesteps: int, spec: str | None = None) -> None:
        self.kept = kept_timesteps(spec or "", timesteps)
        self.betas: Table = betas_of(name, timesteps)
        if spec is not None:
            whole = np.cumprod(1 - self.betas)[self.kept]
            self.betas = 1 - whole / np.append(1, whole[:-1])
        self.ab: Table = np.cumprod(1 - self.betas, dtype=np.float64)
        self.prev, self.next = np.append(1, self.ab[:-1]), np.append(self.ab[1:], 0)
        self.variance: Table = self.betas * (1 - self.prev) / (1 - self.ab)
        self.log_variance: Table = np.log(np.append(self.variance[1], self.variance[1:]))
        self.coef1: Table = self.betas * np.sqrt(self.prev) / (1 - self.ab)
        self.coef2: Table = (1 - self.prev) * np.sqrt(1 - self.betas) / (1 - self.ab)

    def tables(self) -> dict[str, Table]:
        return {
            "betas": self.betas,
            "alphas_cumprod": self.ab,
            "alphas_cumprod_prev": self.prev,
            "alphas_cumprod_next": self.next,
            "sqrt_alphas_cumprod": np.sqrt(self.ab),
            "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - self.ab),
            "log_one_minus_alphas_cumprod": np.log(1 - self.ab),
            "sqrt_recip_alphas_cumprod": np.sqrt(1 / self.ab),
            "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / self.ab - 1),
            "posterior_variance": self.variance,
            "posterior_log_variance_clipped": self.log_variance,
            "posterior_mean_coef1": self.coef1,
            "posterior_mean_coef2": self.coef2,
        }

    def at(self, table: Table, t: Tensor) -> Tensor:
        return torch.from_numpy(table)[t][:, None, None, None]

    def diffused(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        ab = self.at(self.ab, t)
        return ab.sqrt() * x_0.double() + (1 - ab).sqrt() * noise.double()

    def posterior_mean(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.at(self.coef1, t) * x_0 + self.at(self.coef2, t) * x_t


class Reading(NamedTuple):
    """p(x_{t-1} | x_t) and the x̂₀ it is made of."""

    mean: Tensor
    log_variance: Tensor
    x_0: Tensor


def read(
    process: Process,
    output: Tensor,
    x_t: Tensor,
    t: Tensor,
    *,
    mean: str = "EPSILON",
    variance: str = "LEARNED_RANGE",
    clip: bool = True,
    denoised: Callable[[Tensor], Tensor] = lambda x: x,
) -> Reading:
    c, ab = x_t.shape[1], process.at(process.ab, t)
    said, rest = output[:, :c], output[:, c:]
    small = process.at(process.log_variance, t)
    log_beta: Table = np.log(process.betas)
    match variance:
        case "LEARNED_RANGE":
            f = (rest + 1) / 2
            log_variance = f * process.at(log_beta, t) + (1 - f) * small
        case "LEARNED":
            log_variance = rest
        case "FIXED_LARGE":
            log_variance = process.at(np.append(process.log_variance[0], log_beta[1:]), t)
        case _:
            log_variance = small
    if mean == "EPSILON":
        x_0 = (1 / ab).sqrt() * x_t - (1 / ab - 1).sqrt() * said
    elif mean == "START_X":
        x_0 = said
    else:
        coef1, coef2 = process.at(process.coef1, t), process.at(process.coef2, t)
        x_0 = said / coef1 - coef2 / coef1 * x_t
    x_0 = denoised(x_0)
    x_0 = x_0.clamp(-1, 1) if clip else x_0
    center = said if mean == "PREVIOUS_X" else process.posterior_mean(x_0, x_t, t)
    return Reading(center, log_variance.expand(x_t.shape), x_0)


def ancestral(reading: Reading, t: Tensor, z: Tensor, pull: Tensor | float = 0.0) -> Tensor:
    mean = reading.mean + reading.log_variance.exp() * pull
    return mean + (t != 0).double()[:, None, None, None] * (reading.log_variance / 2).exp() * z


def implicit(
    process: Process, x_0: Tensor, x_t: Tensor, t: Tensor, z: Tensor | float, eta: float
) -> Tensor:
    ab, prev = process.at(process.ab, t), process.at(process.prev, t)
    eps = ((1 / ab).sqrt() * x_t - x_0) / (1 / ab - 1).sqrt()
    sigma = eta * ((1 - prev) / (1 - ab)).sqrt() * (1 - ab / prev).sqrt()
    moving = (t != 0).double()[:, None, None, None]
    return prev.sqrt() * x_0 + (1 - prev - sigma**2).sqrt() * eps + moving * sigma * z


def led(process: Process, x_0: Tensor, x_t: Tensor, t: Tensor, pull: Tensor) -> Tensor:
    """x̂₀ of ε̂ - √(1 - ᾱ) · pull."""
    ab = process.at(process.ab, t)
    eps = ((1 / ab).sqrt() * x_t - x_0) / (1 / ab - 1).sqrt() - (1 - ab).sqrt() * pull
    return (1 / ab).sqrt() * x_t - (1 / ab - 1).sqrt() * eps


def encoded(process: Process, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    ab, after = process.at(process.ab, t), process.at(process.next, t)
    eps = ((1 / ab).sqrt() * x_t - x_0) / (1 / ab - 1).sqrt()
    return after.sqrt() * x_0 + (1 - after).sqrt() * eps


def mean_of(x: Tensor) -> Tensor:
    return x.flatten(1).mean(1)


def divergence(m1: Tensor, v1: Tensor, m2: Tensor, v2: Tensor) -> Tensor:
    return 0.5 * (-1 + v2 - v1 + (v1 - v2).exp() + (m1 - m2) ** 2 * (-v2).exp())


def bound(process: Process, reading: Reading, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """(B,) in bits per dimension."""
    true_mean = process.posterior_mean(x_0, x_t, t)
    true_variance = process.at(process.log_variance, t)
    kl = divergence(true_mean, true_variance, reading.mean, reading.log_variance)

    def below(x: Tensor) -> Tensor:
        u = (x - reading.mean) * (-0.5 * reading.log_variance).exp()
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))

    high, low = below(x_0 + 1 / 255), below(x_0 - 1 / 255)
    share = torch.where(x_0 < -0.999, high, torch.where(x_0 > 0.999, 1 - low, high - low))
    nll = -share.clamp(min=1e-12).log()
    return torch.where(t == 0, mean_of(nll), mean_of(kl)) / math.log(2)


def objective(
    process: Process, case: str, output: Tensor, x_0: Tensor, noise: Tensor, t: Tensor
) -> dict[str, Tensor]:
    """The terms of a loss, named as the originals name them."""
    loss, variance, mean = case.split(".")
    x_0, noise, c = x_0.double(), noise.double(), x_0.shape[1]
    x_t = process.diffused(x_0, noise, t)
    steps = len(process.betas)
    if loss.endswith("KL"):
        reading = read(process, output, x_t, t, mean=mean, variance=variance, clip=False)
        bits = bound(process, reading, x_0, x_t, t)
        return {"loss": bits * (steps if loss == "RESCALED_KL" else 1)}
    aims = {
        "EPSILON": noise,
        "START_X": x_0,
        "PREVIOUS_X": process.posterior_mean(x_0, x_t, t),
    }
    mse = mean_of((aims[mean] - output[:, :c]) ** 2)
    if not variance.startswith("LEARNED"):
        return {"loss": mse, "mse": mse}
    frozen = torch.cat([output[:, :c].detach(), output[:, c:]], 1)
    reading = read(process, frozen, x_t, t, mean=mean, variance=variance, clip=False)
    vb = bound(process, reading, x_0, x_t, t) * (steps / 1000 if loss == "RESCALED_MSE" else 1)
    return {"loss": mse + vb, "mse": mse, "vb": vb}
