import numpy as np
import pytest

from model.evaluation import metrics
from model.evaluation.metrics import (
    fit_gaussian,
    frechet_distance,
    inception_score,
    manifold_radii,
    precision_recall,
    squared_distances,
)


def cloud(points: int, width: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    generator = np.random.default_rng(points + width)
    return (shift + scale * generator.normal(size=(points, width))).astype(np.float32)


def test_the_distance_of_two_gaussians_is_the_formula() -> None:
    """In one dimension: (μ₁ - μ₂)² + (σ₁ - σ₂)²."""
    a, b = cloud(500, 1), cloud(400, 1, shift=2.0, scale=3.0)
    wanted = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(fit_gaussian(a), fit_gaussian(b)) == pytest.approx(wanted, rel=1e-5)


def test_fewer_points_than_dimensions_still_have_a_distance() -> None:
    a, b = fit_gaussian(cloud(5, 12)), fit_gaussian(cloud(7, 12))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, b) > 1


def test_certain_and_varied_classes_score_their_number() -> None:
    logits = np.tile(1000 * np.eye(4, dtype=np.float32), (5, 1))
    assert inception_score(logits, 20) == pytest.approx(4)
    assert inception_score(np.zeros((6, 4), np.float32), 4) == pytest.approx(1)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sample, reference = cloud(31, 4), cloud(23, 4, shift=0.5)
    whole = precision_recall(sample, reference, 3), manifold_radii(sample, 3)
    monkeypatch.setattr(metrics, "_ROWS", 7)
    shares, radii = precision_recall(sample, reference, 3), manifold_radii(sample, 3)
    assert shares == whole[0]
    np.testing.assert_array_equal(radii, whole[1])


def test_a_set_covers_itself_and_not_what_is_far_away() -> None:
    points = cloud(40, 3)
    assert precision_recall(points, points, 3) == (1.0, 1.0)
    assert precision_recall(points, points + 100, 3) == (0.0, 0.0)


def test_distances_too_large_for_half_precision_are_computed_in_single() -> None:
    near, far = cloud(3, 2), 300 * np.ones((2, 2), np.float32)
    assert squared_distances(near, near, np.float16).dtype == np.float16
    wide = squared_distances(near, far, np.float16)
    assert wide.dtype == np.float32
    np.testing.assert_allclose(wide, ((near[:, None] - far) ** 2).sum(2), rtol=1e-5)
