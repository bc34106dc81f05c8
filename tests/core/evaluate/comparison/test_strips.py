"""Where the dots of a strip stand: values to their axis, equal ones at one place."""

from __future__ import annotations

import math

import pytest

from difftune_core.evaluate.comparison.strips import Line, place_strip


def test_a_linear_axis_has_six_percent_of_room_at_both_ends() -> None:
    strip = place_strip("FID", [Line("a", "m1", [10.0, 20.0]), Line("b", "m2", [15.0], sd=0.5)])
    assert strip is not None
    first, second = strip.rows
    assert first.dots == [pytest.approx(100 * 0.06 / 1.12, abs=0.01), pytest.approx(100 * 1.06 / 1.12, abs=0.01)]
    assert (first.mean, second.mean, second.dots) == (50.0, 50.0, [50.0])
    assert second.text == "15.00 ± 0.50"
    assert strip.note == ""


def test_values_that_spread_over_a_factor_of_more_than_twelve_are_on_a_logarithmic_axis() -> None:
    strip = place_strip("FID", [Line("a", "m1", [1.0, 100.0])])
    assert strip is not None
    (row,) = strip.rows
    span = math.log(100 * 1.15**2)
    assert row.dots == [
        pytest.approx(100 * math.log(1.15) / span, abs=0.01),
        pytest.approx(100 * math.log(115) / span, abs=0.01),
    ]
    assert row.mean == pytest.approx(100 * math.log(50.5 * 1.15) / span, abs=0.01)
    assert strip.note == "Logarithmic axis."
    for highest, note in ((12.0, ""), (12.1, "Logarithmic axis.")):
        strip = place_strip("FID", [Line("a", "m1", [1.0, highest])])
        assert strip is not None
        assert strip.note == note


@pytest.mark.parametrize("value", [5.0, -5.0, 0.0])
def test_values_that_differ_by_rounding_alone_stand_at_one_place(value: float) -> None:
    strip = place_strip("FID", [Line("a", "m1", [value, value + 1e-7 * abs(value)])])
    assert strip is not None
    assert strip.rows[0].dots == [50.0, 50.0]


def test_nothing_is_drawn_of_references_alone() -> None:
    reference = Line("base model", "reference", [3.0], is_reference=True)
    assert place_strip("FID", [reference, Line("a", "m1", [])]) is None
    strip = place_strip("FID", [reference, Line("a", "m1", [3.5]), Line("b", "m2", [])])
    assert strip is not None
    assert [(row.name, row.is_reference) for row in strip.rows] == [("base model", True), ("a", False)]
