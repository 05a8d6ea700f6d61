"""Golden files of what training needs: gradients, averaged weights, importance sampling."""

import numpy as np
import torch

from model.diffusion.losses import training_losses
from model.diffusion.prediction import Parameterization
from model.diffusion.resampling import LossSecondMomentResampler
from model.errors import GoldenFileError
from model.evaluation.verification.golden import Golden
from model.networks.averaging import average_in


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
