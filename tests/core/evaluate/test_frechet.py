from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from difftune_core.evaluate.frechet import Moments, frechet_distance, frechet_estimate, frechet_of_features, moments_of
from difftune_core.hooks import TaskError

seeds = st.integers(0, 2**31)
scales = st.sampled_from([1e-3, 1.0, 1e3])


def cloud(seed: int, n: int, d: int, *, rank: int | None = None, scale: float = 1.0) -> np.ndarray:
    """Correlated features with a spectrum over two orders of magnitude."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(rank or d, d)) * np.logspace(0, -2, rank or d)[:, None]
    return scale * (rng.normal(size=(n, rank or d)) @ mixing + rng.normal(size=d))


def reference(x: np.ndarray, y: np.ndarray) -> float:
    """The textbook formula with scipy's matrix square root."""
    sx, sy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(sx @ sy)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(sx + sy - 2 * root.real))


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(2, 24), scales)
def test_agrees_with_the_matrix_square_root(seed: int, d: int, scale: float) -> None:
    x, y = cloud(seed, 6 * d + 10, d, scale=scale), cloud(seed + 1, 5 * d + 10, d, scale=scale)
    assert frechet_distance(moments_of(x), moments_of(y)) == pytest.approx(reference(x, y), rel=1e-6)


def test_agrees_with_the_matrix_square_root_at_the_bundled_extractors_size() -> None:
    x, y = cloud(1, 500, 64), cloud(2, 1597, 64)
    assert frechet_of_features(x, y) == pytest.approx(reference(x, y), rel=1e-8)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(2, 40), st.integers(2, 40), st.integers(1, 30))
def test_both_exact_paths_agree_at_any_rank(seed: int, n: int, m: int, d: int) -> None:
    x, y = cloud(seed, n, d), cloud(seed + 1, m, d)
    via_matrices = frechet_distance(moments_of(x), moments_of(y))
    spread = np.trace(moments_of(x).cov) + np.trace(moments_of(y).cov)
    assert frechet_of_features(x, y) == pytest.approx(via_matrices, rel=1e-6, abs=1e-7 * spread)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(2, 60), st.integers(2, 60), st.integers(1, 20), scales)
def test_is_symmetric_zero_on_itself_and_never_negative(seed: int, n: int, m: int, d: int, scale: float) -> None:
    a, b = moments_of(cloud(seed, n, d, scale=scale)), moments_of(cloud(seed + 1, m, d, scale=scale))
    spread = float(np.trace(a.cov) + np.trace(b.cov))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-7, abs=1e-7 * spread)
    assert 0 <= frechet_distance(a, a) <= 1e-7 * spread
    assert frechet_distance(a, b) >= 0


def test_equals_its_closed_form_for_commuting_gaussians() -> None:
    """S1 = diag(a^2), S2 = diag(b^2): |m1 - m2|^2 + sum (a - b)^2."""
    rng = np.random.default_rng(0)
    a, b, step = rng.uniform(0.1, 2, 7), rng.uniform(0.1, 2, 7), rng.normal(size=7)
    first = Moments(101, np.zeros(7), np.diag(a**2) * 100)
    second = Moments(51, step, np.diag(b**2) * 50)
    assert frechet_distance(first, second) == pytest.approx((step**2).sum() + ((a - b) ** 2).sum(), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(seeds, st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 12))
def test_merged_moments_equal_those_of_the_whole(seed: int, sizes: list[int], d: int) -> None:
    x = cloud(seed, sum(sizes) + 2, d) + 1e4  # a mean far from 0 is where naive sums lose digits
    parts = np.split(x, np.cumsum(sizes))
    merged = moments_of(parts[0])
    for part in parts[1:]:
        merged = merged.merge(moments_of(part))
    assert merged.n == len(x)
    assert merged.mean == pytest.approx(x.mean(0), rel=1e-12)
    assert merged.cov.ravel() == pytest.approx(np.cov(x, rowvar=False).ravel(), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize(("n", "m", "d"), [(120, 200, 6), (400, 300, 3)])
def test_the_standard_error_is_the_spread_over_fresh_samples(n: int, m: int, d: int) -> None:
    draws = [(cloud_of_law(1, n, d, seed), cloud_of_law(2, m, d, seed)) for seed in range(400)]
    values = np.array([frechet_of_features(x, y) for x, y in draws])
    errors = np.array([frechet_estimate(x, y).se for x, y in draws])
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.15)


def cloud_of_law(law: int, n: int, d: int, seed: int) -> np.ndarray:
    """A fresh sample of a fixed Gaussian."""
    fixed = np.random.default_rng(law)
    mixing, mean = fixed.normal(size=(d, d)), fixed.normal(size=d)
    return np.random.default_rng([law, seed]).normal(size=(n, d)) @ mixing + mean


def test_the_first_order_error_equals_the_jackknife_with_one_image_left_out() -> None:
    x, y = cloud_of_law(1, 150, 5, 0), cloud_of_law(2, 130, 5, 0)
    left_out = [
        [frechet_of_features(np.delete(x, i, 0), y) for i in range(len(x))],
        [frechet_of_features(x, np.delete(y, i, 0)) for i in range(len(y))],
    ]
    jackknife = np.sqrt(sum((len(values) - 1) * np.var(values) for values in left_out))
    estimate = frechet_estimate(x, y)
    assert estimate.method == "infinitesimal jackknife"
    assert estimate.se == pytest.approx(jackknife, rel=0.05)


def test_the_error_of_one_feature_is_that_of_the_formula() -> None:
    """FID is (m - n)^2 + (s - t)^2 there: an image x has the influence 2 (m - n)(x - m) + (1 - t/s)(x - m)^2."""
    x, y = cloud_of_law(1, 10, 1, 0), cloud_of_law(2, 12, 1, 0)
    squared = 0.0
    for one, other in ((x, y), (y, x)):
        centred = one - one.mean()
        scale = 1 - other.std(ddof=1) / one.std(ddof=1)
        influence = 2 * (one.mean() - other.mean()) * centred + scale * centred**2
        squared += influence.var(ddof=1) / len(one)
    assert frechet_estimate(x, y).se == pytest.approx(squared**0.5, rel=1e-9)


def test_few_images_of_many_features_have_an_error_too() -> None:
    estimate = frechet_estimate(cloud(1, 30, 64), cloud(2, 40, 64))
    assert estimate.method.startswith("jackknife over")
    assert 0 < estimate.se < estimate.value
    low, high = estimate.interval
    assert low < estimate.value < high


def test_dead_features_do_not_matter() -> None:
    x, y = cloud(1, 200, 8), cloud(2, 300, 8)
    padded = [np.hstack([z, np.zeros((len(z), 3))]) for z in (x, y)]
    assert frechet_estimate(*padded).value == pytest.approx(frechet_estimate(x, y).value, rel=1e-9)
    assert frechet_estimate(*padded).se == pytest.approx(frechet_estimate(x, y).se, rel=1e-6)


def test_copies_of_one_image_have_a_distance() -> None:
    one, others = np.ones((200, 4)), cloud(1, 200, 4)
    expected = ((others.mean(0) - 1) ** 2).sum() + np.trace(moments_of(others).cov)
    for estimate in (frechet_estimate(one, others), frechet_estimate(others, one)):
        assert estimate.value == pytest.approx(expected)
        assert estimate.se > 0
    assert frechet_estimate(one, one).value == 0


def test_single_precision_features_are_summed_in_float64() -> None:
    x = cloud(1, 5000, 4).astype(np.float32)
    assert moments_of(x).cov == pytest.approx(np.cov(x.astype(np.float64), rowvar=False), rel=1e-12)


@pytest.mark.parametrize(("n", "code"), [(1, "too_few_images"), (5, "not_finite")])
def test_bad_input_is_named(n: int, code: str) -> None:
    x = np.full((n, 3), np.nan)
    for distance in (frechet_of_features, lambda a, b: frechet_distance(moments_of(a), moments_of(b))):
        with pytest.raises(TaskError) as caught:
            distance(x, cloud(0, 9, 3))
        assert caught.value.code == code
