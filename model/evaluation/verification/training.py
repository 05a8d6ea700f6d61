"""Golden files of what training needs: gradients, averaged weights, importance sampling."""

import numpy as np
import torch
from torch import Tensor, nn

from model.diffusion.losses import Losses, diffuse, gather, training_losses
from model.diffusion.prediction import Parameterization
from model.diffusion.resampling import LossSecondMomentResampler
from model.errors import GoldenFileError
from model.evaluation.verification.denoisers import INPUTS, glide_network, read_conditioning
from model.evaluation.verification.golden import Golden
from model.evaluation.verification.tables import Spaced, spaced_process
from model.networks.averaging import average_in
from model.networks.unet import UNet

_GRADIENT, _TOKEN_ROWS = "grad/", "grad/token_embedding_rows"


def check_averaging(golden: Golden) -> None:
    """`ema`: the average before and after each of the sources came in."""
    sources, average = golden.tensor("sources"), golden.tensor("init").clone()
    history = [average.clone()]
    for source in sources:
        average_in({"": average}, {"": source}, golden.meta["rate"])
        history.append(average.clone())
    golden.check("ema", torch.stack(history))


def check_resampler(golden: Golden) -> None:
    """`weights` and `importance` after each update."""
    resampler = LossSecondMomentResampler(
        golden.meta["num_timesteps"],
        history=golden.meta["history_per_term"],
        uniform=golden.meta["uniform_prob"],
    )
    weights, importance = [], []
    for t, losses in zip(golden.array("ts"), golden.array("losses"), strict=True):
        resampler.update(t.tolist(), losses.tolist())
        weights.append(resampler.weights())
        importance.append(resampler.importance())
    golden.check("weights", np.array(weights))
    golden.check("importance", np.array(importance))


def check_gradients(golden: Golden) -> None:
    """`train_grads_*`: the loss of one batch and what it asks of the weights."""
    golden.accept(("x0", "noise", "t", *INPUTS))
    options = golden.meta["options"]
    spaced = spaced_process(
        options["noise_schedule"], options["diffusion_steps"], options["timestep_respacing"]
    )
    network = glide_network(golden, torch.float32).requires_grad_(True)
    with torch.enable_grad():
        losses = _losses(golden, network, spaced)
        losses.total.mean().backward()  # type: ignore[no-untyped-call]
    golden.check("loss", losses.total)
    golden.check("mse", losses.simple)
    assert losses.bound is not None
    golden.check("vb", spaced.process.timesteps / 1000 * losses.bound)
    _check_gradients(golden, dict(network.named_parameters()))


def _losses(golden: Golden, network: UNet, spaced: Spaced) -> Losses:
    x_0, noise, t = golden.tensor("x0"), golden.tensor("noise"), golden.tensor("t").long()
    heard = torch.tensor(spaced.timestep_map, device=t.device)[t]
    x_t = diffuse(x_0, noise, gather(spaced.process.alpha_bar, t))
    output = network(x_t, heard, read_conditioning(golden, network))
    reading = Parameterization("epsilon", "learned_range", spaced.process)
    return training_losses(output, x_0, noise, t, reading)


def _check_gradients(golden: Golden, parameters: dict[str, nn.Parameter]) -> None:
    golden.accept(("grad_names", "token_embedding_rows"))

    def gradient(name: str) -> Tensor | None:
        if name not in parameters:
            raise GoldenFileError(f"the network has no parameter {name!r}")
        return parameters[name].grad

    if golden.has("grad_norms"):
        found = [gradient(name) for name in golden.array("grad_names").tolist()]
        norms = [-1.0 if each is None else float(each.double().norm()) for each in found]
        golden.check("grad_norms", np.array(norms))
    for array in golden.names:
        if array == _TOKEN_ROWS:
            rows = golden.tensor("token_embedding_rows").long()
            golden.check(array, _present(gradient("token_embedding.weight"))[rows])
        elif array.startswith(_GRADIENT):
            golden.check(array, _present(gradient(array.removeprefix(_GRADIENT))))


def _present(gradient: Tensor | None) -> Tensor:
    if gradient is None:
        raise GoldenFileError("the network has no gradient where the file has one")
    return gradient
