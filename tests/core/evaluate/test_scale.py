"""Where a result stands between floor and ceiling: on a logarithmic axis with room at both ends."""

from __future__ import annotations

import math

import pytest

from difftune_core.drawing.scale import Mark, place

LOW, HIGH = 1 / 1.25, 100 * 1.25
SPAN = math.log(HIGH / LOW)


def percent(value: float) -> float:
    return 100 * math.log(value / LOW) / SPAN


def test_values_stand_in_order_at_their_logarithms() -> None:
    scale = place([Mark("high", 100.0), Mark("result", 10.0, is_result=True), Mark("low", 1.0)])
    assert scale is not None
    assert [(row.name, row.is_result) for row in scale.rows] == [("low", False), ("result", True), ("high", False)]
    assert [row.at for row in scale.rows] == [pytest.approx(percent(v), abs=0.01) for v in (1, 10, 100)]
    assert scale.rows[1].at == 50, "between the two, as far from each"
    assert scale.ticks[0] == ("1", pytest.approx(percent(1), abs=0.01))
    assert [label for label, _ in scale.ticks][-1] == "100"


def test_an_interval_is_of_95_percent_and_ends_with_the_axis() -> None:
    scale = place([Mark("a", 1.0), Mark("b", 10.0, se=1.0), Mark("c", 100.0, se=90.0)])
    assert scale is not None
    bare, inside, wide = scale.rows
    assert (bare.low, bare.at, bare.high) == (bare.at,) * 3
    assert (inside.low, inside.high) == pytest.approx((percent(10 - 1.96), percent(10 + 1.96)), abs=0.01)
    assert (wide.low, wide.high) == (0, 100)
    assert (bare.text, inside.text) == ("1.000", "10.0 ± 1.0")


@pytest.mark.parametrize("values", [[], [3.0], [3.0, 0.0], [3.0, math.inf], [3.0, -1.0]])
def test_one_value_has_nothing_to_stand_between(values: list[float]) -> None:
    assert place([Mark("x", value) for value in values]) is None
