"""When a ControlNet began to follow its control: the step of "sudden convergence", by a rule and not by eye.

A run's score (say SSIM) is measured at n steps. Without a jump it is taken to be a parabola of the step plus normal
noise; with one, a level is added from some evaluation on. The rule says that the run converged where

1. the best such level explains more than noise does: its share of the parabola's residual sum of squares, the largest
   over all places, is beyond its 95 % point in `_SIMULATIONS` runs of noise alone (a likelihood-ratio test; for normal
   noise that share depends on neither parabola nor variance, so the rate of false finds is at most 5 %), and
2. the level goes the better way and is at least half of the fitted curve's whole range: a slow rise is no jump,
   however plain it is.

The step is that of the first evaluation behind the jump; two evaluations or more lie before it, and two from it on.
Noise that carries over from one evaluation to the next makes the first part less strict than it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

LEVEL = 0.05
"""Rate of false finds in noise."""
MIN_EVALUATIONS = 8
_SIMULATIONS = 4000
_REFITS = 400
_MIN_SIDE = 2  # evaluations before and behind a jump: one alone may be a slip
_MIN_SHARE = 0.5
_SEED = 20240603
_ROUNDING = 1e-18  # residuals below this share of the scores' squares are rounding


@dataclass(frozen=True)
class Convergence:
    """What the rule found.

    Attributes:
        step: the first evaluated step behind the jump; None where none was reached.
        confidence: 1 - p of the likelihood-ratio test, also where no step is given.
        interval: 95 % of the steps found again when noise like the run's is added to the fit anew; None without step.
        jump: height of the level, in the score's units, positive for the better way.
        share: the height over the fitted curve's range.
        num_evaluations: n.
        reason: why there is no step: `too_few_evaluations`, `not_significant`, `gradual`; empty where there is one.
    """

    step: int | None
    confidence: float
    interval: tuple[int, int] | None
    jump: float
    share: float
    num_evaluations: int
    reason: str = ""


def sudden_convergence(steps: Sequence[int], scores: Sequence[float], *, higher_is_better: bool = True) -> Convergence:
    """The step of sudden convergence of one run.

    Args:
        steps: evaluated steps, rising.
        scores: one a step, finite.
        higher_is_better: False for errors such as MSE.

    Raises:
        ValueError: steps that do not rise, another number of scores, or scores that are no numbers.
    """
    at = np.array(steps, dtype=np.int64)
    y = np.array(scores, dtype=np.float64) * (1 if higher_is_better else -1)
    if at.shape != y.shape or not np.isfinite(y).all() or (np.diff(at) <= 0).any():
        raise ValueError("one finite score for each step, and steps that rise")
    n = len(at)
    if n < MIN_EVALUATIONS:
        return Convergence(None, 0.0, None, 0.0, 0.0, n, "too_few_evaluations")
    design = _design(at)
    found = _best(design, y[None])
    if found.shares[0] == 0:
        return Convergence(None, 0.0, None, 0.0, 0.0, n, "not_significant")
    rng = np.random.default_rng(_SEED)
    noise = _best(design, rng.standard_normal((_SIMULATIONS, n)))
    confidence = 1 - (1 + int((noise.shares >= found.shares[0]).sum())) / (1 + _SIMULATIONS)
    fit, jump = _fit(design, y, int(found.places[0]))
    share = jump / max(float(np.ptp(fit)), np.finfo(float).tiny)
    if confidence < 1 - LEVEL:
        return Convergence(None, confidence, None, jump, share, n, "not_significant")
    if share < _MIN_SHARE:
        return Convergence(None, confidence, None, jump, share, n, "gradual")
    spread = np.sqrt(((y - fit) ** 2).sum() / max(1, n - design.smooth.shape[1] - 1))
    again = _best(design, fit + spread * rng.standard_normal((_REFITS, n))).places
    low, high = np.quantile(again, [0.025, 0.975], method="nearest")
    interval = (int(at[int(low)]), int(at[int(high)]))
    return Convergence(int(at[int(found.places[0])]), confidence, interval, jump, share, n)


@dataclass(frozen=True)
class _Design:
    """`smooth`: orthonormal columns of the parabolas. `levels`: of a level from each place on, the part beyond them."""

    smooth: Float64[np.ndarray, "n p"]
    places: Int64[np.ndarray, " k"]
    levels: Float64[np.ndarray, "k n"]
    norms: Float64[np.ndarray, " k"]


@dataclass(frozen=True)
class _Best:
    """Share of the residual sum of squares that the best level explains, and where that begins, for each of m runs."""

    shares: Float64[np.ndarray, " m"]
    places: Int64[np.ndarray, " m"]


def _design(steps: Int64[np.ndarray, " n"]) -> _Design:
    x = (steps - steps[0]) / (steps[-1] - steps[0])
    smooth, _ = np.linalg.qr(np.stack([np.ones_like(x), x, x * x], axis=1))
    places = np.arange(_MIN_SIDE, len(steps) - _MIN_SIDE + 1)
    levels = (np.arange(len(steps))[None] >= places[:, None]).astype(np.float64)
    levels -= levels @ smooth @ smooth.T
    norms = np.sqrt((levels**2).sum(axis=1))
    return _Design(smooth, places, levels / norms[:, None], norms)


def _best(design: _Design, scores: Float64[np.ndarray, "m n"]) -> _Best:
    residuals = scores - scores @ design.smooth @ design.smooth.T
    squares = (residuals**2).sum(axis=1)
    rounding = _ROUNDING * (scores**2).sum(axis=1)
    explained = np.maximum(residuals @ design.levels.T, 0) ** 2
    which = explained.argmax(axis=1)
    top = explained[np.arange(len(scores)), which]
    shares = np.where(squares > rounding, top / np.maximum(squares, np.finfo(float).tiny), 0.0)
    return _Best(shares, design.places[which])


def _fit(design: _Design, y: Float64[np.ndarray, " n"], place: int) -> tuple[Float64[np.ndarray, " n"], float]:
    """The curve with the level, and the level's height."""
    row = int(np.flatnonzero(design.places == place)[0])
    level = design.levels[row]
    along = float(level @ y)
    return design.smooth @ (design.smooth.T @ y) + along * level, along / float(design.norms[row])
