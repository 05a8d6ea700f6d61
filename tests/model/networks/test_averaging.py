import torch

from model.networks.averaging import average_in


def test_an_average_moves_by_the_rest_of_its_rate() -> None:
    averages = {"a": torch.tensor([1.0, 2.0])}
    average_in(averages, {"a": torch.tensor([3.0, 2.0])}, 0.75)
    assert averages["a"].tolist() == [1.5, 2.0]
