import math

import numpy as np
import pytest
import torch

from model.diffusion.prediction import (
    Prediction,
    learned_log_variance,
    quantile,
    target,
    threshold,
    to_epsilon,
    to_x0,
)
from model.params import Thresholding

PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "x0", "v")


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).double()


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_means_the_same_image_and_noise(prediction: Prediction) -> None:
    x_0, noise = draw(4, 3, 5, 5), draw(4, 3, 5, 6)[..., :5]
    alpha_bar = torch.tensor([0.001, 0.3, 0.7, 0.999], dtype=torch.float64)
    a = alpha_bar[:, None, None, None]
    x_t = a.sqrt() * x_0 + (1 - a).sqrt() * noise
    output = target(prediction, x_0, noise, alpha_bar)
    torch.testing.assert_close(to_x0(prediction, output, x_t, alpha_bar), x_0)
    torch.testing.assert_close(to_epsilon(prediction, output, x_t, alpha_bar), noise)


def test_learned_variance_lies_between_its_bounds_on_a_log_scale() -> None:
    fraction = torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1)
    log_beta, log_beta_tilde = torch.full((3,), -2.0), torch.full((3,), -4.0)
    found = learned_log_variance(fraction, log_beta, log_beta_tilde)
    assert found.flatten().tolist() == [-4.0, -3.0, -2.0]


def test_each_row_is_bounded_in_its_own_way() -> None:
    x_0 = 3 * draw(5, 3, 8, 8).float()
    modes = [
        Thresholding.NONE,
        Thresholding.STATIC,
        Thresholding.DYNAMIC,
        Thresholding.DYNAMIC,
        Thresholding.DYNAMIC,
    ]
    x_0[4] /= 100  # its quantile is below 1
    bounded = threshold(x_0, modes, [0.5, 0.5, 0.9, 0.5, 0.9])
    assert torch.equal(bounded[0], x_0[0])
    assert torch.equal(bounded[1], x_0[1].clamp(-1, 1))
    assert torch.equal(bounded[4], x_0[4])
    for row, p in ((2, 0.9), (3, 0.5)):
        s = float(np.quantile(x_0[row].abs().numpy(), p, method="inverted_cdf"))
        assert s > 1
        torch.testing.assert_close(bounded[row], x_0[row].clamp(-s, s) / s)


def test_a_row_is_bounded_as_if_it_were_alone() -> None:
    x_0 = 2 * draw(6, 3, 16, 16).float()
    modes = [Thresholding.DYNAMIC, Thresholding.STATIC, Thresholding.NONE] * 2
    percentiles = [0.99, 0.9, 0.8, 0.7, 0.6, 0.5]
    together = threshold(x_0, modes, percentiles)
    for row in range(6):
        alone = threshold(x_0[row : row + 1], modes[row : row + 1], percentiles[row : row + 1])
        assert torch.equal(together[row], alone[0])


@pytest.mark.parametrize("n", [1, 7, 200])
def test_the_quantile_is_the_inverse_of_the_empirical_distribution(n: int) -> None:
    values = draw(9, n)
    percentiles = [1e-9, 0.1, 0.25, 1 / 3, 0.5, 0.75, 0.9, 0.995, 1.0]
    found = quantile(values, percentiles)
    for row, p in enumerate(percentiles):
        ordered = sorted(values[row].tolist())
        assert found[row].item() == ordered[max(math.ceil(p * n), 1) - 1]
