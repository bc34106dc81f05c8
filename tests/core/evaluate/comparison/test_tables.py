"""In what the methods of a comparison differ, as a person reads it."""

from __future__ import annotations

from typing import Any

import pytest

from difftune_core.config.reports.comparison import MethodTold, PairTold
from difftune_core.evaluate.comparison.tables import pair_groups, settings


def method(name: str, **hyperparameters: Any) -> MethodTold:
    told = {"name": name, "seeds": (0,), "type": "supervised", "trainable_parameters": 1_200_000}
    return MethodTold.model_validate({**told, "hyperparameters": hyperparameters})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "yes"),
        (False, "no"),
        (None, "–"),
        (1e-5, "1e-05"),
        (0.5, "0.5"),
        (20_000, "20,000"),
        ("cosine", "cosine"),
    ],
)
def test_a_setting_is_shown_in_words_and_round_numbers(value: Any, shown: str) -> None:
    table = settings([method("a", setting=value), method("b", setting="other")], controlled=False)
    assert table["names"] == ["a", "b"]
    assert table["rows"] == [("setting", [shown, "other"])]
    assert table["note"] == "The same for all: method supervised, trainable parameters 1,200,000."


def test_what_all_share_is_said_once_and_nothing_of_what_none_has() -> None:
    both = {"batch_size": 8, "seed_of": {"data": 1}, "absent": None}
    table = settings([method("a", **both), method("b", **both)], controlled=False)
    assert table["rows"] == [("no setting differs", ["", ""])]
    assert table["note"].endswith("trainable parameters 1,200,000, batch size 8, seed of data 1.")


PAIR = {"first": "plain", "second": "ours", "n": 3, "difference": -1.25, "interval": [-2.0, -0.5], "smallest_p": 0.25,
        "p_t_holm": 0.0004, "p_sign_flip_holm": 0.25}  # fmt: skip


def pair(**changes: Any) -> PairTold:
    return PairTold.model_validate(PAIR | changes)


def test_a_pair_is_told_with_its_interval_and_the_least_p_that_so_many_seeds_can_show() -> None:
    [(label, [row])] = pair_groups([("FID", [pair()]), ("KID", [])])
    assert (label, row.name, row.seeds) == ("FID", "ours − plain", 3)
    assert (row.difference, row.interval) == ("−1.25", "−2.00 to −0.500")
    assert (row.p_t, row.p_sign_flip, row.smallest_p) == ("< 0.001", "0.250", "0.250")
    assert row.is_clear


@pytest.mark.parametrize(("p", "shown"), [(0.000999, "< 0.001"), (0.001, "0.001"), (0.0426, "0.043"), (1.0, "1.000")])
def test_a_small_p_is_told_by_its_bound_alone(p: float, shown: str) -> None:
    [(_, [row])] = pair_groups([("FID", [pair(p_t_holm=p)])])
    assert row.p_t == shown


@pytest.mark.parametrize(
    ("interval", "is_clear"), [([-1.0, 1.0], False), ([0.0, 1.0], False), ([0.1, 1.0], True), (None, False)]
)
def test_a_difference_is_clear_where_its_interval_leaves_out_nothing(interval: Any, is_clear: bool) -> None:
    [(_, [row, _])] = pair_groups([("FID", [pair(interval=interval, p_t_holm=None)] * 2)])
    assert (row.is_clear, row.p_t) == (is_clear, "–")
    assert row.smallest_p == "0.500", "of two pairs, as Holm corrects"
