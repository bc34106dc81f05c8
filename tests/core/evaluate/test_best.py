from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difftune_core.config.evaluation import EarlyStopping, EvaluationConfig
from difftune_core.config.reports.evaluation import Evaluation, Judged
from difftune_core.evaluate.best import best_evaluation, evaluations_in_vain, stopped_early

VALUES = st.lists(st.one_of(st.none(), st.floats(0, 1e6)), max_size=12)


def history(values: list[float | None], metric: str = "fid") -> list[Evaluation]:
    return [Evaluation.model_validate({"step": 10 * i, metric: value}) for i, value in enumerate(values, start=1)]


def test_a_figure_is_found_in_quality_or_forgetting() -> None:
    entry = Judged.model_validate({"fid": 3.0, "kid": None, "precision": math.nan, "forgetting": {"null_fid": 7}})
    assert [entry.value(name) for name in ("fid", "kid", "precision", "null_fid", "recall")] == [
        3.0, None, None, 7.0, None,
    ]  # fmt: skip


def test_the_best_is_the_lowest_or_for_precision_the_highest_and_of_equals_the_first() -> None:
    values = [5.0, 2.0, None, 2.0, 9.0]
    for metric, step in (("fid", 20), ("null_fid", 20), ("precision", 50), ("recall", 50), ("fd_dinov2", 20)):
        best = best_evaluation(history(values, metric), metric)
        assert best is not None
        assert best.step == step
    assert best_evaluation(history([None, math.inf]), "fid") is None


@settings(deadline=None)  # the first look at the table reads what is installed
@given(VALUES)
def test_nothing_is_better_than_the_best(values: list[float | None]) -> None:
    best = best_evaluation(history(values), "fid")
    known = [value for value in values if value is not None]
    assert (best.value("fid") == min(known)) if best is not None else not known


@pytest.mark.parametrize(
    ("values", "min_delta", "in_vain"),
    [
        ([], 0.0, 0),
        ([9.0], 0.0, 0),
        ([9.0, 8.0, 8.0], 0.0, 1),
        ([9.0, 8.5, 8.0, 7.5], 1.0, 0),
        ([9.0, 8.5, 8.2, 8.1], 1.0, 3),
        ([9.0, None, 9.5], 0.0, 1),
    ],
)
def test_small_steps_add_up_to_an_improvement(values: list[float | None], min_delta: float, in_vain: int) -> None:
    assert evaluations_in_vain(history(values), "fid", min_delta) == in_vain


@settings(deadline=None)
@given(VALUES, st.integers(1, 4))
def test_training_ends_at_the_first_evaluation_after_which_patience_is_over(
    values: list[float | None], patience: int
) -> None:
    """By brute force: `patience` measured evaluations in a row, none of them below all before them."""
    config = EvaluationConfig(every_steps=10, early_stopping=EarlyStopping(patience=patience))
    entries = history(values)
    known = [value for value in values if value is not None]
    earlier, newest = known[:-patience], known[-patience:]
    expected = bool(earlier) and min(newest) >= min(earlier)
    assert (stopped_early(entries, config) is not None) == expected


def test_no_early_stopping_unless_asked_for() -> None:
    assert stopped_early(history([1.0] * 50), EvaluationConfig(every_steps=10)) is None
