from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difftune_core.evaluate.kernel import kernel_distance, squared_mmd
from difftune_core.hooks import TaskError


def cloud(seed: int, n: int, d: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Sum by sum, as Gretton et al. (2012) write it."""
    d = x.shape[1]
    total = 0.0
    for i, a in enumerate(x):
        total += sum((a @ b / d + 1) ** 3 for j, b in enumerate(x) if i != j) / (len(x) * (len(x) - 1))
        total -= 2 * sum((a @ b / d + 1) ** 3 for b in y) / (len(x) * len(y))
    for i, a in enumerate(y):
        total += sum((a @ b / d + 1) ** 3 for j, b in enumerate(y) if i != j) / (len(y) * (len(y) - 1))
    return total


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 12), st.integers(3, 12), st.integers(1, 8))
def test_equals_its_definition(seed: int, n: int, m: int, d: int) -> None:
    x, y = cloud(seed, n, d), cloud(seed + 1, m, d, 0.5)
    assert squared_mmd(x, y) == pytest.approx(by_definition(x, y), rel=1e-10, abs=1e-12)
    assert kernel_distance(x, y).value == pytest.approx(by_definition(x, y), rel=1e-10, abs=1e-12)


def test_the_error_of_a_whole_set_is_the_jackknife_by_definition() -> None:
    x, y = cloud(1, 9, 4), cloud(2, 7, 4, 0.3)
    left_out = [
        [by_definition(np.delete(x, i, 0), y) for i in range(len(x))],
        [by_definition(x, np.delete(y, i, 0)) for i in range(len(y))],
    ]
    wanted = np.sqrt(sum((len(values) - 1) * np.var(values) for values in left_out))
    result = kernel_distance(x, y)
    assert result.se == pytest.approx(wanted, rel=1e-9)
    assert (result.num_blocks, result.block_size) == (1, 7)
    assert result.method.startswith("whole set")


def test_large_sets_are_cut_into_disjoint_blocks() -> None:
    x, y = cloud(1, 430, 6), cloud(2, 900, 6, 0.4)
    result = kernel_distance(x, y, block_size=100, seed=3)
    assert (result.num_blocks, result.block_size, result.method) == (4, 100, "mean over disjoint blocks")
    assert abs(result.value - squared_mmd(x, y)) < 4 * result.se
    assert result == kernel_distance(x, y, block_size=100, seed=3)
    assert result != kernel_distance(x, y, block_size=100, seed=4)


def test_chunks_do_not_change_the_sums() -> None:
    x, y = cloud(1, 2500, 3), cloud(2, 1100, 3, 0.2)

    def gram(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / 3 + 1) ** 3

    within = [(gram(z, z).sum() - np.trace(gram(z, z))) / (len(z) * (len(z) - 1)) for z in (x, y)]
    assert squared_mmd(x, y) == pytest.approx(sum(within) - 2 * gram(x, y).mean(), rel=1e-9)


@pytest.mark.parametrize("block_size", [1000, 20])
def test_is_unbiased_and_its_error_is_the_spread_over_fresh_samples(block_size: int) -> None:
    draws = [kernel_distance(cloud(s, 80, 4), cloud(s + 9999, 60, 4), block_size=block_size) for s in range(250)]
    values = np.array([draw.value for draw in draws])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))
    far = [kernel_distance(cloud(s, 80, 4), cloud(s + 9999, 60, 4, 0.5), block_size=block_size) for s in range(250)]
    mean_square = np.mean([f.se**2 for f in far])  # unbiased for the variance, which the mean error is not for its root
    assert np.sqrt(mean_square) == pytest.approx(np.std([f.value for f in far]), rel=0.15)


def test_two_images_are_too_few() -> None:
    with pytest.raises(TaskError, match="at least 3 images"):
        kernel_distance(cloud(0, 2, 3), cloud(1, 9, 3))


def test_features_that_are_no_numbers_are_refused() -> None:
    broken = cloud(0, 9, 3)
    broken[4, 1] = np.nan
    for x, y in ((broken, cloud(1, 9, 3)), (cloud(1, 9, 3), broken)):
        with pytest.raises(TaskError) as caught:
            kernel_distance(x, y)
        assert caught.value.code == "not_finite"
