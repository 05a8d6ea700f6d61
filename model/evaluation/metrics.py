"""Distances between two sets of pictures, on features that somebody else extracted.

Fréchet distance, inception score, precision and recall, as ADM's evaluator computes them. On numpy
alone; knows no network and no picture.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
Precision = type[np.float16] | type[np.float32]

_ROWS = 2048  # of a block of distances: what a block takes stays small whatever the sets' sizes


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """The normal distribution that a set of features is summed up by.

    Attributes:
        mean: (D,).
        covariance: (D, D) float64, unbiased.
    """

    mean: FloatArray
    covariance: NDArray[np.float64]


def fit_gaussian(features: FloatArray) -> Gaussian:
    """Mean and covariance of features (N, D), N at least 2."""
    covariance = np.cov(features, rowvar=False, dtype=np.float64)
    return Gaussian(np.mean(features, axis=0), np.atleast_2d(covariance))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """FID: |μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½). Heusel et al. 2017, arXiv:1706.08500.

    The trace of the root is Σ √λ of Σ_a^½ Σ_b Σ_a^½, which is symmetric: no complex part, and
    nothing to add to singular covariances.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    product = root @ b.covariance @ root
    eigenvalues = np.linalg.eigvalsh((product + product.T) / 2).clip(min=0)
    apart = a.mean.astype(np.float64) - b.mean.astype(np.float64)
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(eigenvalues).sum()
    return float(apart @ apart + spread)


def inception_score(logits: FloatArray, split: int) -> float:
    """IS: exp of the mean KL(p(y | x) ‖ p(y)), averaged over consecutive splits of N pictures.

    Salimans et al. 2016, §4, arXiv:1606.03498.

    Args:
        logits: (N, classes).
        split: pictures of one split; the last one may be shorter.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    scores = []
    for start in range(0, len(log_p), split):
        part = log_p[start : start + split]
        marginal = np.log(np.exp(part).mean(axis=0))
        scores.append(np.exp((np.exp(part) * (part - marginal)).sum(axis=1).mean()))
    return float(np.mean(scores))


def squared_distances(a: FloatArray, b: FloatArray, precision: Precision) -> FloatArray:
    """(N, M) squared distances of features (N, D) and (M, D), at least 0.

    ‖a‖² - 2 a·b + ‖b‖², in float16 where all of it is finite there, else in float32.
    """
    if precision is np.float16:
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = _expanded_distances(a.astype(np.float16), b.astype(np.float16))
        if np.isfinite(rounded).all():
            return rounded
    return _expanded_distances(a.astype(np.float32), b.astype(np.float32))


def _expanded_distances(a: FloatArray, b: FloatArray) -> FloatArray:
    """In the dtype of both; sums of products are held in float32, as matrix units hold them."""
    wide_a, wide_b = a.astype(np.float32), b.astype(np.float32)
    norm_a = np.square(wide_a).sum(axis=1).astype(a.dtype)[:, None]
    norm_b = np.square(wide_b).sum(axis=1).astype(b.dtype)[None]
    product = (wide_a @ wide_b.T).astype(a.dtype)
    distances: FloatArray = np.maximum(norm_a - a.dtype.type(2) * product + norm_b, 0)
    return distances


def manifold_radii(features: FloatArray, k: int, precision: Precision = np.float32) -> FloatArray:
    """(N, 1) squared distance of each point of (N, D) to its k-th nearest neighbour in the set."""
    blocks = [
        np.partition(squared_distances(features[row : row + _ROWS], features, precision), k, axis=1)
        for row in range(0, len(features), _ROWS)
    ]
    return np.concatenate([block[:, k : k + 1] for block in blocks])


def precision_recall(
    sample: FloatArray, reference: FloatArray, k: int, precision: Precision = np.float32
) -> tuple[float, float]:
    """The shares of samples in the reference's manifold, and of the reference in the samples'.

    A manifold is the union of the balls that reach each point's k-th neighbour. Kynkäänniemi et
    al. 2019, arXiv:1904.06991.

    Args:
        sample: (N, D).
        reference: (M, D).
        k: neighbour that sets a ball's radius.
        precision: of the distances.
    """
    sample_radii = manifold_radii(sample, k, precision)
    reference_radii = manifold_radii(reference, k, precision)
    covered = np.zeros(len(reference), bool)
    inside = []
    for row in range(0, len(sample), _ROWS):
        distances = squared_distances(sample[row : row + _ROWS], reference, precision)
        inside.append((distances <= reference_radii.T).any(axis=1))
        covered |= (distances <= sample_radii[row : row + _ROWS]).any(axis=0)
    return float(np.concatenate(inside).mean()), float(covered.mean())
