from __future__ import annotations

import numpy as np
import pytest

from difftune_core.evaluate.equal_scores import steps_saved

STEPS = list(range(10, 410, 10))


def _curve(step: float, pace: float = 1.0) -> float:
    return 1 - float(np.exp(-pace * step / 100))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("pace", "saved"), [(1.0, 0.0), (2.0, 0.5), (0.5, -1.0)])
def test_twice_as_fast_saves_half_of_the_steps(pace: float, saved: float, sign: int) -> None:
    plain, other = ([sign * _curve(step, by) for step in STEPS] for by in (1.0, pace))
    assert steps_saved(STEPS, plain, other, higher_is_better=sign > 0) == pytest.approx(saved, abs=0.02)


def test_noise_does_not_favour_either() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(100):
        plain, other = ([_curve(step) + 0.02 * rng.standard_normal() for step in STEPS] for _ in range(2))
        found.append(steps_saved(STEPS, plain, other))
    mean, error = np.mean(found), np.std(found) / 10
    assert abs(mean) < 3 * error + 0.005


def test_curves_without_a_common_score_say_nothing() -> None:
    assert steps_saved(STEPS, [_curve(step) for step in STEPS], [1 + _curve(step) for step in STEPS]) is None


def test_runs_that_have_learned_nothing_say_nothing() -> None:
    """Two curves of noise climb somewhere; that says nothing of who is sooner."""
    rng = np.random.default_rng(0)
    found = [steps_saved(STEPS[:16], *rng.standard_normal((2, 16)).tolist()) for _ in range(100)]
    assert sum(share is not None for share in found) <= 3
