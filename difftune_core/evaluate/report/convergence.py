"""The step of sudden convergence on the page of a ControlNet run."""

from __future__ import annotations

from typing import Any

from difftune_core.evaluate.convergence import MIN_EVALUATIONS
from difftune_core.evaluate.report.entries import Report
from difftune_core.evaluate.report.numbers import number
from difftune_core.evaluate.report.tables import Tile

_TITLE = "Sudden convergence"
_REASONS = {
    "too_few_evaluations": f"not judged: it takes {MIN_EVALUATIONS} evaluations",
    "not_significant": "no jump beyond noise, confidence {confidence:.3f}",
    "gradual": "a rise, but no jump: {share:.0%} of the curve's range",
}
_HOW = (
    "The first evaluation behind a jump of the agreement with the controls: a level added to a parabola of the step "
    "must explain more than noise does (likelihood-ratio test at 95 %) and be half of the fitted curve's range or more."
)


def why_none(found: dict[str, Any]) -> str:
    """Why the rule finds no step, in words."""
    return _REASONS[found["reason"]].format(**found)


def convergence_tile(report: Report) -> list[Tile]:
    """When the results began to follow their controls; nothing for a run without controls."""
    found = report.get("convergence")
    if not found:
        return []
    if found["step"] is None:
        return [Tile(_TITLE, "none", why_none(found))]
    low, high = found["interval"]
    span = f"step {number(low)}" if low == high else f"steps {number(low)} to {number(high)}"
    return [Tile(_TITLE, f"step {number(found['step'])}", f"95 %: {span}; confidence {found['confidence']:.3f}")]


def how_converged(report: Report) -> list[tuple[str, str]]:
    """The rule, as a line of the glossary."""
    return [(_TITLE, _HOW)] if report.get("convergence") else []
