"""Golden files of the metrics, on features that the files hold."""

import re

import numpy as np

from model.evaluation.metrics import (
    Gaussian,
    fit_gaussian,
    frechet_distance,
    inception_score,
    manifold_radii,
    precision_recall,
)
from model.evaluation.verification.golden import Golden

_FRECHET_LIMIT, _RADIUS_SHARE = 1e-4, 1e-5
_SCORE = re.compile(r"inception_score_split([1-9]\d*)")


def check_metrics(golden: Golden) -> None:
    """Statistics, distances and scores of the sets `ref` and `sample`."""
    sets = {name: golden.array(name) for name in ("ref", "sample") if golden.has(name)}
    fitted = {name: fit_gaussian(features) for name, features in sets.items()}
    for name, gaussian in fitted.items():
        golden.check(f"mu_{name}", gaussian.mean)
        golden.check(f"sigma_{name}", gaussian.covariance)
        _check_radii(golden, name)
    _check_frechet(golden, fitted)
    _check_scores(golden)
    for precision in (np.float32, np.float16):
        name = f"precision_recall_f{np.dtype(precision).itemsize * 8}"
        if golden.has(name):
            sample, reference = golden.array("sample"), golden.array("ref")
            shares = precision_recall(sample, reference, golden.meta["k"], precision)
            points = np.array([len(sample), len(reference)])
            # One point of slack in either share: a point on a ball's rim falls as rounding has it.
            golden.check(name, np.array(shares), limit=(1 + 1e-9) / points)


def _check_frechet(golden: Golden, fitted: dict[str, Gaussian]) -> None:
    for name, other in (("fid", "sample"), ("fid_self", "ref")):
        if golden.has(name):
            distance = frechet_distance(fitted[other], fitted["ref"])
            golden.check(name, np.array(distance), limit=_FRECHET_LIMIT)


def _check_radii(golden: Golden, name: str) -> None:
    stored = f"radii_{name}"
    if golden.has(stored):
        limits = _RADIUS_SHARE * np.abs(golden.array(stored))
        golden.check(stored, manifold_radii(golden.array(name), golden.meta["k"]), limit=limits)


def _check_scores(golden: Golden) -> None:
    golden.accept(["softmax_W"])
    for name in golden.names:
        if match := _SCORE.fullmatch(name):
            logits = golden.array("sample") @ golden.array("softmax_W")
            golden.check(name, np.array(inception_score(logits, int(match[1]))))
