"""The step of sudden convergence on the page of a ControlNet run."""

from __future__ import annotations

from difftune_core.config.reports.run import RunReport
from difftune_core.drawing.numbers import number
from difftune_core.evaluate.convergence import MIN_EVALUATIONS
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


def why_none(reason: str, confidence: float, share: float | None) -> str:
    """Return why the rule finds no step, in words."""
    return _REASONS[reason].format(confidence=confidence, share=share)


def convergence_tile(report: RunReport) -> list[Tile]:
    """When the results began to follow their controls; nothing for a run without controls."""
    found = report.convergence
    if found is None:
        return []
    if found.step is None or found.interval is None:
        return [Tile(_TITLE, "none", why_none(found.reason, found.confidence, found.share))]
    low, high = found.interval
    span = f"step {number(low)}" if low == high else f"steps {number(low)} to {number(high)}"
    return [Tile(_TITLE, f"step {number(found.step)}", f"95 %: {span}; confidence {found.confidence:.3f}")]


def how_converged(report: RunReport) -> list[tuple[str, str]]:
    """The rule, as a line of the glossary."""
    return [(_TITLE, _HOW)] if report.convergence else []
