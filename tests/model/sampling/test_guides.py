import pytest
import torch
from torch import Tensor, nn

from model.conditioning import Conditioning
from model.errors import ConditioningError
from model.sampling.guides import ClassifierGuide, ClipGuide


class ToyEncoder(nn.Module):
    """Features of an image and a timestep, as a noised CLIP's image half gives them."""

    def __init__(self, out: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.layer = nn.Linear(3 * 4 * 4, out).double()

    def encode_image(self, x: Tensor, t: Tensor) -> Tensor:
        features: Tensor = torch.tanh(self.layer(x.flatten(1))) + t[:, None] / 1000
        return features

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return 3 * self.encode_image(x, t)


X = torch.randn((3, 3, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
T = torch.tensor([0, 500, 999])
LABELS = torch.tensor([4, 0, 2])
TEXTS = torch.nn.functional.normalize(
    torch.randn((3, 5), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
)


def clip_likeness(network: ToyEncoder, x: Tensor) -> float:
    """Σ 100 <z_text, z_image>, as cosines."""
    return 100 * float(torch.cosine_similarity(network.encode_image(x, T), TEXTS).sum())


def class_likelihood(network: ToyEncoder, x: Tensor) -> float:
    logits = network(x, T)
    chosen = logits[torch.arange(3), LABELS]
    return float((chosen - logits.exp().sum(1).log()).sum())


@pytest.mark.parametrize("kind", ["clip", "classifier"])
def test_a_guide_gives_the_slope_of_its_likelihood(kind: str) -> None:
    network = ToyEncoder(5)
    likelihood = clip_likeness if kind == "clip" else class_likelihood
    guide = ClipGuide(network) if kind == "clip" else ClassifierGuide(network)
    with torch.no_grad():
        gradient = guide(X, T, Conditioning(label=LABELS, clip_text=TEXTS))
        assert gradient.shape == X.shape
        for place in ((0, 0, 0, 0), (1, 2, 3, 1), (2, 1, 0, 2)):
            step = torch.zeros_like(X)
            step[place] = 1e-6
            slope = (likelihood(network, X + step) - likelihood(network, X - step)) / 2e-6
            assert gradient[place].item() == pytest.approx(slope, rel=1e-4, abs=1e-7)
    assert not gradient.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("kind", ["clip", "classifier"])
def test_a_rows_gradient_does_not_depend_on_the_other_rows(kind: str) -> None:
    network = ToyEncoder(5)
    guide = ClipGuide(network) if kind == "clip" else ClassifierGuide(network)
    together = guide(X, T, Conditioning(label=LABELS, clip_text=TEXTS))
    for row in range(3):
        one = slice(row, row + 1)
        alone = guide(X[one], T[one], Conditioning(label=LABELS[one], clip_text=TEXTS[one]))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-12, atol=1e-12)


def test_features_that_are_unit_vectors_already_lead_the_same_way() -> None:
    class Unit(ToyEncoder):
        def encode_image(self, x: Tensor, t: Tensor) -> Tensor:
            return torch.nn.functional.normalize(super().encode_image(x, t))

    wanted = Conditioning(clip_text=TEXTS)
    torch.testing.assert_close(
        ClipGuide(Unit(5))(X, T, wanted), ClipGuide(ToyEncoder(5))(X, T, wanted)
    )


def test_a_guide_without_a_goal_is_refused() -> None:
    network = ToyEncoder(5)
    with pytest.raises(ConditioningError, match="CLIP features"):
        ClipGuide(network)(X, T, Conditioning(label=LABELS))
    with pytest.raises(ConditioningError, match="label"):
        ClassifierGuide(network)(X, T, Conditioning(clip_text=TEXTS))
