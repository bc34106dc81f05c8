"""Which images a report pictures, and what their rows and columns are called."""

from __future__ import annotations

PICTURED = 12
"""Classes of a grid, at most."""
FOLLOWING = ["control", "result", "drawn anew", "held out"]
"""Rows of a ControlNet's samples; `drawn anew` is the control that the annotator sees in the result."""


def one_a_column(count: int) -> str:
    """Return what the columns are, where there are `count` classes."""
    told = "one class a column"
    return f"{told}; the first {PICTURED} of {count} classes" if count > PICTURED else told
