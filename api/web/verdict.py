"""What a report says of a result, in sentences that claim no more than the intervals show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from difftune_core.config.figures import Figure, find_figure
from difftune_core.config.reports.evaluation import Judged
from difftune_core.config.reports.run import RunReport
from difftune_core.drawing.numbers import with_error

_Z = 1.96  # 95 % of a normal distribution
Tone = Literal["good", "bad", "calm"]


@dataclass(frozen=True)
class Verdict:
    """A sentence, and how it is to be taken."""

    text: str
    tone: Tone


@dataclass(frozen=True)
class Tile:
    """A figure of the result beside the base model's."""

    title: str
    value: str
    detail: str


def verdicts(report: RunReport) -> list[Verdict]:
    """Return whether the result is better than the base model, whether it kept that, and what its owner must know."""
    result, base = report.result, report.reference("base_model")
    if result is None:
        return []
    judged = [_against_base(figure, result, base) for key in _keys(report) if (figure := find_figure(key))]
    found = [verdict for verdict in judged[:1] if verdict]
    if kept := _kept(report):
        found.append(kept)
    return found + [Verdict(told.message, "bad") for told in report.shortcomings]


def tiles(report: RunReport) -> list[Tile]:
    """Figures of the result that have one of the base model to stand beside."""
    result, base = report.result, report.reference("base_model")
    found = []
    for key in (*_keys(report), "null_fid", "held_out_loss"):
        figure = find_figure(key)
        if figure is None or result is None or (value := result.value(key)) is None:
            continue
        own, arrow = base.value(key), "lower is better" if figure.better == "lower" else "higher is better"
        detail = f"base model {with_error(own, base.error(key))}; {arrow}" if own is not None else arrow
        found.append(Tile(figure.headline or figure.label, with_error(value, result.error(key)), detail))
    return list(dict.fromkeys(found))


def _keys(report: RunReport) -> list[str]:
    best = report.best.metric if report.best else "fid"
    figure = find_figure(best)
    first = [best] if figure is not None and figure.group != "forgetting" else []
    return list(dict.fromkeys([*first, *(["ssim", "mse"] if report.is_controlled else []), "fid", "kid"]))


def _against_base(figure: Figure, result: Judged, base: Judged) -> Verdict | None:
    ours, theirs = result.value(figure.key), base.value(figure.key)
    if ours is None or theirs is None:
        return None
    errors = result.error(figure.key), base.error(figure.key)
    shown = f"{figure.label} {with_error(theirs, errors[1])} → {with_error(ours, errors[0])}"
    gain = theirs - ours if figure.better == "lower" else ours - theirs
    if None in errors:
        side = "better" if gain > 0 else "worse"
        return Verdict(f"On your held-out images: {shown}, {side} than the base model; no interval is known.", "calm")
    margin = _Z * math.hypot(*(error or 0.0 for error in errors))
    if gain > margin:
        return Verdict(f"It is better than the base model on your held-out images: {shown}.", "good")
    if gain < -margin:
        return Verdict(f"It is worse than the base model on your held-out images: {shown}.", "bad")
    return Verdict(f"No difference from the base model is shown on your held-out images: {shown}.", "calm")


def _kept(report: RunReport) -> Verdict | None:
    """Return how much of the base model is left, beside what that itself has; no line says when it counts as lost."""
    result, base, figure = report.result, report.reference("base_model"), find_figure("null_fid")
    if figure is None or result is None or (value := result.value(figure.key)) is None:
        return None
    shown = f"{figure.label} {with_error(value, result.error(figure.key))}"
    own = base.value(figure.key)
    if own is None:
        return Verdict(f"What it keeps of the base model: {shown}; lower is more.", "calm")
    own_shown = with_error(own, base.error(figure.key))
    return Verdict(f"What it keeps of the base model: {shown}; that itself has {own_shown}, lower is more.", "calm")
