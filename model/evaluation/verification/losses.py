"""Golden files of the training objective: every loss of the originals, with its gradient."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from model.diffusion.losses import (
    bound_term,
    diffuse,
    gather,
    gaussian_kl,
    posterior_mean,
    reverse_process,
    training_losses,
    variational_bound,
)
from model.diffusion.prediction import Parameterization, Prediction
from model.diffusion.schedule import NoiseSchedule, Variance
from model.errors import GoldenFileError
from model.evaluation.verification.golden import Golden
from model.evaluation.verification.tables import spaced_process

_INPUTS = ("x0", "noise", "t", "model_output")
_LOSSES = ("MSE", "RESCALED_MSE", "KL", "RESCALED_KL")
_PREDICTIONS: dict[str, Prediction] = {"EPSILON": "epsilon", "START_X": "x0"}
_VARIANCES: dict[str, Variance] = {
    "FIXED_SMALL": "fixed_small",
    "FIXED_LARGE": "fixed_large",
    "LEARNED_RANGE": "learned_range",
}
# The two that the originals have and nothing here is trained with: the variance's logarithm as
# such, and x_{t-1} as the prediction.
_PLAIN_VARIANCE, _PREVIOUS = "LEARNED", "PREVIOUS_X"


class _Pictures(NamedTuple):
    """A file's inputs and its process."""

    x_0: Tensor
    noise: Tensor
    t: Tensor
    x_t: Tensor
    process: NoiseSchedule

    @property
    def channels(self) -> int:
        """C of the pictures."""
        return self.x_0.shape[1]


def check_losses(golden: Golden) -> None:
    """`losses_*`: the terms of every case, and the bound by itself."""
    golden.accept(_INPUTS)
    meta = golden.meta
    process = spaced_process(meta["noise_schedule"], meta["T"], meta["timestep_respacing"]).process
    x_0, noise, t = golden.tensor("x0"), golden.tensor("noise"), golden.tensor("t").long()
    x_t = diffuse(x_0, noise, gather(process.alpha_bar, t))
    pictures = _Pictures(x_0, noise, t, x_t, process)
    for case, terms in golden.meta["cases"].items():
        _check_case(golden, pictures, case, terms)
    learned = Parameterization("epsilon", "learned_range", process)
    for name, clip in (("vb_clip", True), ("vb_noclip", False)):
        if golden.has(name):
            output = golden.tensor("model_output")
            golden.check(name, variational_bound(output, x_0, x_t, t, learned, clip=clip))
    golden.check("prior_bpd", lambda: _prior(pictures))


def _prior(pictures: _Pictures) -> Tensor:
    """(B,) KL(q(x_T | x₀) ‖ N(0, 1)) in bits per dimension."""
    last = gather(pictures.process.alpha_bar, torch.full_like(pictures.t, -1))
    mean = last.sqrt().float()[:, None, None, None] * pictures.x_0
    log_variance = torch.log1p(-last).float()[:, None, None, None]
    zero = torch.zeros_like(log_variance)
    return gaussian_kl(mean, log_variance, zero, zero).flatten(1).mean(1) / math.log(2)


def _check_case(golden: Golden, pictures: _Pictures, case: str, terms: list[str]) -> None:
    if not any(name.startswith(f"{case}/") for name in golden.names):
        raise GoldenFileError(f"meta_json lists {case}, of which the file holds nothing")
    loss, variance, mean = _parse(case)
    stored = golden.tensor("model_output").clone().requires_grad_()
    with torch.enable_grad():
        output = stored if variance.startswith("LEARNED") else stored[:, : pictures.channels]
        found = _terms(pictures, output, loss, variance, mean)
    for term in terms:
        if term not in found:
            raise GoldenFileError(f"{case} has no term {term!r}")
        golden.check(f"{case}/{term}", found[term])
    name = f"{case}/grad_model_output"
    if golden.has(name):
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(found["loss"].mean(), stored)
        golden.check(name, gradient[:, : golden.array(name).shape[1]])


def _parse(case: str) -> tuple[str, str, str]:
    parts = tuple(case.split("."))
    known = (_LOSSES, (*_VARIANCES, _PLAIN_VARIANCE), (*_PREDICTIONS, _PREVIOUS))
    if len(parts) != 3 or any(part not in names for part, names in zip(parts, known, strict=True)):
        raise GoldenFileError(f"no loss is called {case!r}")
    return parts[0], parts[1], parts[2]


def _terms(
    pictures: _Pictures, output: Tensor, loss: str, variance: str, mean: str
) -> dict[str, Tensor]:
    """A loss' terms, (B,) each."""
    timesteps = pictures.process.timesteps
    if loss.endswith("KL"):
        bound = _bound(pictures, output, variance, mean)
        return {"loss": timesteps * bound if loss.startswith("RESCALED") else bound}
    share = timesteps / 1000 if loss.startswith("RESCALED") else 1.0
    simple, bound_or_none = _errors(pictures, output, variance, mean)
    if bound_or_none is None:
        return {"loss": simple, "mse": simple}
    vb = share * bound_or_none
    return {"loss": simple + vb, "mse": simple, "vb": vb}


def _errors(
    pictures: _Pictures, output: Tensor, variance: str, mean: str
) -> tuple[Tensor, Tensor | None]:
    """The prediction's squared error, and the bound that trains the variance alone."""
    x_0, noise, t, x_t, process = pictures
    if variance in _VARIANCES and mean in _PREDICTIONS:
        reading = Parameterization(_PREDICTIONS[mean], _VARIANCES[variance], process)
        losses = training_losses(output, x_0, noise, t, reading)
        return losses.simple, losses.bound
    target = {"EPSILON": noise, "START_X": x_0, _PREVIOUS: posterior_mean(process, x_0, x_t, t)}
    prediction = output[:, : pictures.channels]
    simple = (prediction - target[mean]).square().flatten(1).mean(1)
    if variance in ("FIXED_SMALL", "FIXED_LARGE"):
        return simple, None
    frozen = torch.cat([prediction.detach(), output[:, pictures.channels :]], dim=1)
    return simple, _bound(pictures, frozen, variance, mean)


def _bound(pictures: _Pictures, output: Tensor, variance: str, mean: str) -> Tensor:
    """The bound's term, also of the two readings that nothing here is trained with."""
    x_0, _, t, x_t, process = pictures
    reading = Parameterization(
        _PREDICTIONS.get(mean, "x0"), _VARIANCES.get(variance, "fixed_small"), process
    )
    center, log_variance = reverse_process(output, x_t, t, reading)
    if mean == _PREVIOUS:
        center = output[:, : pictures.channels]
    if variance == _PLAIN_VARIANCE:
        log_variance = output[:, pictures.channels :]
    return bound_term(center, log_variance, x_0, x_t, t, process)
