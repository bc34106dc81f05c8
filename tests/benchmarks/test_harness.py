"""Measurements are taken in turn, told with their interval, and claimed only behind a guard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.harness.blocks import Comparison, Side, alternate
from benchmarks.harness.claims import Bar, Guard, faster, share
from benchmarks.harness.lines import tell

TWICE = Comparison(("plain", "ours"), (2.0, 2.2, 2.1, 1.9), (1.0, 1.0, 1.1, 1.0))
HELD, FAILED = Guard("by hand", held=True), Guard("by hand", held=False)


def test_blocks_alternate_and_count_units() -> None:
    now, done = [0.0], []

    def side(name: str, seconds: float, units: float) -> Side:
        def work() -> None:
            now[0] += seconds
            done.append(name)

        return Side(name, work, units)

    found = alternate(side("a", 6.0, 2), side("b", 1.0, 1), blocks=3, block_s=0.0, clock=lambda: now[0])
    assert "".join(done) == "ab" + "ababab", "a warm-up of each, then in turn"
    assert (found.first, found.second) == ((3.0,) * 3, (1.0,) * 3)
    assert found.ratio == 3


def test_the_interval_holds_the_ratio_and_is_turned_over_with_it() -> None:
    low, high = TWICE.interval
    assert low <= TWICE.ratio <= high
    assert low >= 1.9 / 1.1
    assert high <= 2.2
    turned = share("stall", TWICE).told()
    assert turned["value"] == pytest.approx(1 / TWICE.ratio, rel=1e-3)
    assert turned["interval"] == pytest.approx([1 / high, 1 / low], rel=1e-3)


@pytest.mark.parametrize(
    ("bar", "guard", "ok"),
    [
        (Bar(at_least=2.0), HELD, True),
        (Bar(at_least=3.0), HELD, False),
        (Bar(at_most=3.0), HELD, True),
        (Bar(at_least=2.0), FAILED, False),
        (Bar(at_least=2.0), None, False),
        (None, FAILED, False),
        (None, None, True),
    ],
)
def test_nothing_is_claimed_without_a_guard(bar: Bar | None, guard: Guard | None, ok: bool) -> None:
    assert faster("x", TWICE, bar=bar, guard=guard).ok is ok


def test_lines_say_what_made_them_and_are_appended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep = tmp_path / "results" / "kept.jsonl"
    for number in range(2):
        tell({"benchmark": "x", "value": number}, keep)
    lines = keep.read_text(encoding="utf-8")
    assert capsys.readouterr().out == lines
    found = [json.loads(line) for line in lines.splitlines()]
    assert [line["value"] for line in found] == [0, 1]
    assert {"commit", "date", "processor", "cores"} <= set(found[0]["made_by"])
