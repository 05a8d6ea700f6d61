import pytest
import torch

from model.conditioning import Conditioning
from model.diffusion.prediction import Prediction, target, to_epsilon
from model.diffusion.schedule import noise_schedule
from model.sampling.guidance import active_scale, guide, guided_rows
from tests.model.sampling.toy_network import caption

C, U = caption(1.0, 0.0), caption(0.0, 1.0)


def test_rows_are_only_those_that_guidance_needs() -> None:
    pairs: list[tuple[Conditioning | None, float]] = [
        (U, 3.0),  # two rows
        (U, 1.0),  # conditional alone
        (U, 0.0),  # unconditional alone
        (None, 3.0),  # nothing to guide away from
        (None, 0.0),
        (U, 0.5),  # two rows
    ]
    rows = guided_rows([C] * 6, [u for u, _ in pairs], [s for _, s in pairs])
    assert list(rows.source) == [0, 1, 2, 3, 4, 5, 0, 5]
    assert list(rows.conditioning) == [C, C, U, C, C, C, U, U]
    assert list(rows.unconditional) == [6, 1, 2, 3, 4, 7]


def test_each_row_is_guided_by_its_own_scale() -> None:
    scales = [3.0, 1.0, 0.0, 5.0, -1.0]
    unconditional = [U, U, U, None, U]
    rows = guided_rows([C] * 5, unconditional, scales)
    output = torch.randn(len(rows.source), 6, 2, 2)
    guided = guide(output, rows, 3)
    for row in (1, 2, 3):
        assert torch.equal(guided[row], output[row])
    for row, other in ((0, 5), (4, 6)):
        c, u = output[row], output[other]
        torch.testing.assert_close(guided[row, :3], u[:3] + scales[row] * (c[:3] - u[:3]))
        assert torch.equal(guided[row, 3:], c[3:])  # the variance is the conditional one's


@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_guidance_of_any_prediction_is_guidance_of_epsilon(prediction: Prediction) -> None:
    generator = torch.Generator().manual_seed(0)
    x_t, eps_c, eps_u = torch.randn((3, 2, 3, 4, 4), generator=generator).double().unbind()
    alpha_bar = torch.from_numpy(noise_schedule("cosine", 1000).alpha_bar)[[100, 800]]
    a = alpha_bar[:, None, None, None]

    def as_predicted(eps: torch.Tensor) -> torch.Tensor:
        return target(prediction, (x_t - (1 - a).sqrt() * eps) / a.sqrt(), eps, alpha_bar)

    rows = guided_rows([C, C], [U, U], [3.0, 7.5])
    on_epsilon = guide(torch.cat([eps_c, eps_u]), rows, 3)
    on_prediction = guide(torch.cat([as_predicted(eps_c), as_predicted(eps_u)]), rows, 3)
    found = to_epsilon(prediction, on_prediction, x_t, alpha_bar)
    torch.testing.assert_close(found, on_epsilon)


@pytest.mark.parametrize(
    ("timestep", "scale"), [(0, 1.0), (199, 1.0), (200, 4.0), (500, 4.0), (799, 4.0), (800, 1.0)]
)
def test_guidance_acts_within_its_interval(timestep: int, scale: float) -> None:
    assert active_scale(4.0, (0.2, 0.8), timestep, 1000) == scale


def test_the_whole_interval_holds_every_timestep() -> None:
    assert {active_scale(4.0, (0.0, 1.0), t, 1000) for t in range(1000)} == {4.0}
    assert active_scale(4.0, (0.0, 1.0), 0, 1) == 4.0
