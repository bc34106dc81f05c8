from __future__ import annotations

import numpy as np
import pytest

from difftune_core.evaluate.compare import compare
from difftune_core.evaluate.extrapolate import Extrapolation, _line, _windows, frechet_infinity
from difftune_core.evaluate.frechet import frechet_estimate, frechet_of_features
from difftune_core.hooks import TaskError

D = 32
SPREAD = np.random.default_rng(5).uniform(0.3, 1.5, D)


def pair(seed: int, n: int, m: int, *, shift: float = 0.1, scale: float = 1.1) -> tuple[np.ndarray, np.ndarray]:
    """Two Gaussians of diagonal covariance, whose true squared distance is `truth`."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, D)) * SPREAD, rng.normal(size=(m, D)) * SPREAD * scale + shift


def truth(shift: float = 0.1, scale: float = 1.1) -> float:
    return D * shift**2 + float((SPREAD**2).sum()) * (scale - 1) ** 2


@pytest.mark.parametrize(
    ("n", "m", "shift", "scale"), [(256, 256, 0.1, 1.1), (128, 400, 0.1, 1.1), (200, 200, 0.0, 1.0)]
)
def test_is_nearer_to_the_truth_than_fid_and_within_its_interval(n: int, m: int, shift: float, scale: float) -> None:
    right, within, nearer, values = truth(shift, scale), 0, 0, []
    for seed in range(60):
        x, y = pair(seed, n, m, shift=shift, scale=scale)
        full = frechet_estimate(x, y)
        found = frechet_infinity(x, y, full=full)
        low, high = found.estimate.interval
        values.append(found.estimate.value)
        within += low <= right <= high
        nearer += abs(found.estimate.value - right) < abs(full.value - right)
        assert found.bias == pytest.approx(full.value - found.estimate.value, rel=0.2)
    assert within >= 51  # of 60; at a true level of 94 % fewer have a chance below 1 %
    assert nearer >= 57
    assert abs(np.mean(values) - right) < 0.25 * np.std(values)  # hardly biased, while FID is by many of these


def test_is_the_line_through_parts_of_equal_share() -> None:
    x, y = pair(1, 600, 300)
    found = frechet_infinity(x, y, seed=3)
    rng = np.random.default_rng(3)
    parts = [np.array_split(rng.permutation(len(z)), 6) for z in (x, y)]
    values = []
    for size, windows in ((3, 2), (4, 3), (5, 6), (6, 1)):
        runs = [[(w * (6 // windows) + i) % 6 for i in range(size)] for w in range(windows)]
        of_x, of_y = ([np.concatenate([side[i] for i in run]) for run in runs] for side in parts)
        values.append(np.mean([frechet_of_features(x[a], y[b]) for a, b in zip(of_x, of_y, strict=True)]))
    slope, intercept = np.polyfit([2, 1.5, 1.2, 1], values, 1)
    assert found.estimate.value == pytest.approx(intercept, rel=1e-8)
    assert found.bias == pytest.approx(slope, rel=1e-8)


@pytest.mark.parametrize("size", [3, 4, 5, 6])
def test_parts_cover_every_group_equally_often(size: int) -> None:
    counts = np.bincount(np.concatenate(_windows(size)), minlength=6)
    assert counts.min() == counts.max() >= 1


def test_the_line_has_the_error_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    inverse = np.array([1.0, 1.2, 1.5, 2.0])
    fits = [_line(inverse, 3 + 2 * inverse + rng.normal(size=4) * 0.1) for _ in range(4000)]
    intercepts, slopes, errors = np.array(fits).T
    assert (intercepts.mean(), slopes.mean()) == (pytest.approx(3, abs=0.02), pytest.approx(2, abs=0.02))
    assert np.sqrt((errors**2).mean()) == pytest.approx(intercepts.std(), rel=0.05)


def test_too_few_images_get_a_reason_and_no_figure() -> None:
    x, y = pair(0, 127, 500)
    with pytest.raises(TaskError, match="at least 128 images on each side for 32 features") as caught:
        frechet_infinity(x, y)
    assert caught.value.code == "too_few_images"
    result = compare(x, y, metrics=("fid", "fid_infinity"))
    assert result["fid"] > 0
    assert all(result[f"fid_infinity{part}"] is None for part in ("", "_se", "_interval"))
    assert result["fid_bias"] is None
    assert "the line ends too low" in result["warnings"][0]
    enough = pair(0, 128, 500)
    assert isinstance(frechet_infinity(*enough), Extrapolation)
    assert compare(*enough, metrics=("fid_infinity",))["fid_infinity"] == frechet_infinity(*enough).estimate.value
