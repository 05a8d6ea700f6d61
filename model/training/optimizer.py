"""The optimizer of a run: Muon for the matrices inside the network, AdamW for everything else."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from model.training.config import TrainingConfig


class Muon(Optimizer):
    """Momentum whose matrix updates are made orthogonal by Newton–Schulz (Jordan et al. 2024).

    A convolution's kernel counts as the matrix (out, in · kh · kw). `torch.optim.Muon` takes no
    kernels, and iterates in bfloat16, which is twelve times slower than this on a CPU without
    bfloat16 units.

    Args:
        parameters: with at least two axes each.
        lr: learning rate; the update of a matrix is scaled by √max(1, rows / columns).
        momentum: of the Nesterov average.
        weight_decay: decoupled.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: nn.Parameter, group: dict[str, float]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["average"] = torch.zeros_like(gradient)
        average = state["average"].lerp_(gradient, 1 - group["momentum"])
        nesterov = gradient.lerp(average, group["momentum"])
        update = orthogonalized(nesterov.flatten(1)).view_as(nesterov)
        rows, columns = parameter.flatten(1).shape
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonalized(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values end between 0.7 and 1.2."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16() if matrix.is_cuda else matrix.float()
    transposed = x.shape[0] > x.shape[1]
    x = x.T if transposed else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.T if transposed else x).to(matrix.dtype)
    return result


def build_optimizers(network: nn.Module, config: TrainingConfig) -> list[Optimizer]:
    """Muon for hidden matrices and kernels; AdamW for embeddings, both ends and vectors."""
    ends = (
        "token_embedding",
        "positional_embedding",
        "padding_embedding",
        "input_blocks.0.",
        "out.",
        *(f"{half}.blocks.{end}." for half in ("text", "image") for end in ("input", "output")),
    )
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        inside = parameter.ndim >= 2 and not name.startswith(ends)
        (matrices if inside else others).append(parameter)
    decay = config.weight_decay
    return [
        Muon(matrices, lr=config.muon_lr, momentum=0.95, weight_decay=decay),
        AdamW(others, lr=config.adam_lr, betas=(0.9, 0.99), weight_decay=decay),
    ]
