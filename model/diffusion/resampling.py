"""Which timesteps a training draws: more of those whose losses are large.

Loss-second-moment importance sampling, Nichol & Dhariwal 2021, §3.2, arXiv:2102.09672. Knows no
network; the caller reports the losses.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.diffusion.schedule import FloatArray


class LossSecondMomentResampler:
    """Draws timesteps in proportion to √E[L_t²], once every timestep has a full history.

    Args:
        timesteps: T.
        history: losses kept for each timestep, the newest ones.
        uniform: share of the draws that stay uniform.
    """

    def __init__(self, timesteps: int, history: int = 10, uniform: float = 0.001) -> None:
        self._history = np.zeros((timesteps, history))
        self._counts = np.zeros(timesteps, np.int64)
        self._uniform = uniform

    @property
    def warmed_up(self) -> bool:
        """Whether every timestep has a full history."""
        return bool(np.all(self._counts == self._history.shape[1]))

    def weights(self) -> FloatArray:
        """(T,) in proportion to the probabilities: ones at first, summing to 1 afterwards."""
        timesteps = len(self._counts)
        if not self.warmed_up:
            return np.ones(timesteps)
        size = np.sqrt(np.mean(np.square(self._history), axis=1))
        shares: FloatArray = size / size.sum() * (1 - self._uniform) + self._uniform / timesteps
        return shares

    def importance(self) -> FloatArray:
        """(T,) the factors 1 / (T p_t) that keep the expected loss what uniform draws give."""
        weights = self.weights()
        factors: FloatArray = weights.sum() / (len(weights) * weights)
        return factors

    def draw(
        self, count: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Timesteps (B,) and the factors of their losses (B,)."""
        weights = self.weights()
        t = generator.choice(len(weights), size=count, p=weights / weights.sum())
        return t, self.importance()[t]

    def update(self, t: Sequence[int], losses: Sequence[float]) -> None:
        """Takes in the losses (B,) of timesteps (B,), in their order."""
        for timestep, loss in zip(t, losses, strict=True):
            row, count = self._history[timestep], self._counts[timestep]
            if count == len(row):
                row[:-1] = row[1:]
                row[-1] = loss
            else:
                row[count] = loss
                self._counts[timestep] += 1
