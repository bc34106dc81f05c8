from __future__ import annotations

import numpy as np
import pytest

from difftune_core.evaluate.convergence import MIN_EVALUATIONS, Convergence, sudden_convergence


def judged(curve: np.ndarray, noise: float, seed: int, *, higher: bool = True) -> Convergence:
    """Steps are 100, 200, ..."""
    noisy = curve + noise * np.random.default_rng(seed).standard_normal(len(curve))
    steps = [100 * (i + 1) for i in range(len(curve))]
    return sudden_convergence(steps, noisy.tolist(), higher_is_better=higher)


def at(n: int) -> np.ndarray:
    return np.arange(1, n + 1) / n


@pytest.mark.parametrize("n", [10, 16, 40])
@pytest.mark.parametrize("where", [0.25, 0.5, 0.8])
@pytest.mark.parametrize("higher", [True, False])
def test_a_jump_is_found_within_one_evaluation(n: int, where: float, *, higher: bool) -> None:
    place = int(n * where)
    curve = 0.4 * (np.arange(n) >= place) + 0.1 * at(n)
    for seed in range(10):
        found = judged(curve if higher else 1 - curve, 0.02, seed, higher=higher)
        assert found.step is not None
        assert abs(found.step - 100 * (place + 1)) <= 100
        assert found.confidence > 0.95
        assert found.interval is not None
        assert found.interval[0] <= found.step <= found.interval[1]
        assert found.jump == pytest.approx(0.4, abs=0.12)
        assert found.reason == ""


@pytest.mark.parametrize("n", [10, 40])
def test_noise_alone_jumps_at_the_stated_rate_at_most(n: int) -> None:
    reps = 200
    finds = sum(judged(np.zeros(n), 1.0, seed).step is not None for seed in range(reps))
    assert finds <= 0.05 * reps + 2 * np.sqrt(0.05 * 0.95 * reps)


@pytest.mark.parametrize("noise", [0.001, 0.02])
@pytest.mark.parametrize("n", [16, 40])
@pytest.mark.parametrize("shape", ["line", "root", "saturating", "wide logistic"])
def test_a_slow_rise_is_no_jump(shape: str, n: int, noise: float) -> None:
    x = at(n)
    curve = {
        "line": x,
        "root": np.sqrt(x),
        "saturating": 1 - np.exp(-3 * x),
        "wide logistic": 1 / (1 + np.exp(-10 * (x - 0.5))),
    }[shape]
    found = [judged(curve, noise, seed) for seed in range(10)]
    assert sum(f.step is not None for f in found) <= 1
    assert {f.reason for f in found} <= {"", "gradual", "not_significant"}


def test_a_fall_is_no_convergence() -> None:
    curve = -0.4 * (np.arange(20) >= 9)
    assert all(judged(curve, 0.02, seed).step is None for seed in range(10))


def test_the_interval_is_wider_where_noise_is_larger() -> None:
    curve = 0.4 * (np.arange(40) >= 20)
    widths = []
    for noise in (0.02, 0.15):
        found = [judged(curve, noise, seed) for seed in range(12)]
        widths.append(np.mean([f.interval[1] - f.interval[0] for f in found if f.interval]))
    assert widths[0] < 20
    assert widths[1] > 60


def test_too_few_evaluations_and_constant_scores_have_no_step() -> None:
    few = sudden_convergence(list(range(MIN_EVALUATIONS - 1)), [0.0] * 3 + [1.0] * (MIN_EVALUATIONS - 4))
    assert (few.step, few.reason, few.num_evaluations) == (None, "too_few_evaluations", MIN_EVALUATIONS - 1)
    flat = sudden_convergence(list(range(20)), [0.37] * 20)
    assert (flat.step, flat.confidence, flat.reason) == (None, 0.0, "not_significant")


def test_a_jump_without_noise_is_found_exactly() -> None:
    found = sudden_convergence([5 * i for i in range(12)], [0.1] * 7 + [0.9] * 5)
    assert (found.step, found.interval) == (35, (35, 35))
    assert found.share == pytest.approx(1)


def test_scores_that_are_no_curve_are_refused() -> None:
    for steps, scores in (([1, 2, 2], [0.0] * 3), ([1, 2], [0.0] * 3), ([1, 2, 3], [0.0, float("nan"), 0.0])):
        with pytest.raises(ValueError, match="rise"):
            sudden_convergence(steps, scores)
