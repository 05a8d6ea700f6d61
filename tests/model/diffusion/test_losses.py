import pytest
import torch

from model.diffusion.losses import (
    diffuse,
    gather,
    min_snr_weight,
    training_losses,
    variational_bound,
)
from model.diffusion.prediction import Parameterization, Prediction, target, to_x0
from model.diffusion.schedule import noise_schedule

SCHEDULE = noise_schedule("cosine", 1000)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_weighted_errors_of_all_predictions_are_one_error(prediction: Prediction) -> None:
    x_0, noise, wrong = torch.randn((3, 4, 3, 6, 6), dtype=torch.float64).unbind()
    alpha_bar = gather(SCHEDULE.alpha_bar, torch.tensor([3, 200, 600, 990]))
    x_t = diffuse(x_0, noise, alpha_bar)
    output = target(prediction, x_0, noise, alpha_bar) + 0.1 * wrong

    def error(kind: Prediction, got: torch.Tensor) -> torch.Tensor:
        squared = (got - target(kind, x_0, noise, alpha_bar)).square()
        return min_snr_weight(kind, alpha_bar) * squared.flatten(1).mean(1)

    same = error("x0", to_x0(prediction, output, x_t, alpha_bar))
    torch.testing.assert_close(error(prediction, output), same)


def test_weights_scale_the_simple_loss_alone() -> None:
    x_0, noise, output = torch.randn(3, 2, 3, 4, 4).unbind()
    t = torch.tensor([10, 500])
    weight = torch.tensor([2.0, 0.5])
    fixed = Parameterization("x0", "fixed_small", SCHEDULE)
    losses = training_losses(output, x_0, noise, t, fixed, weight)
    assert losses.bound is None
    torch.testing.assert_close(losses.total, weight * losses.simple)
    learned = Parameterization("epsilon", "learned_range", SCHEDULE)
    losses = training_losses(torch.cat([output, noise], 1), x_0, noise, t, learned, weight)
    assert losses.bound is not None
    torch.testing.assert_close(losses.total, weight * losses.simple + losses.bound)


def test_a_bound_is_never_negative_and_zero_only_for_the_truth() -> None:
    x_0 = torch.rand(4, 3, 4, 4, dtype=torch.float64) * 2 - 1
    noise = torch.randn(4, 3, 4, 4, dtype=torch.float64)
    t = torch.tensor([1, 50, 500, 999])
    x_t = diffuse(x_0, noise, gather(SCHEDULE.alpha_bar, t))
    truths: dict[Prediction, torch.Tensor] = {"epsilon": noise, "x0": x_0}
    for prediction, truth in truths.items():
        parameterization = Parameterization(prediction, "fixed_small", SCHEDULE)
        bound = variational_bound(truth, x_0, x_t, t, parameterization)
        assert torch.all(bound.abs() < 1e-9)
        assert torch.all(variational_bound(truth + 1, x_0, x_t, t, parameterization) > 0)
