"""Stops at chosen moments of a run, and what of it must not depend on them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from difftune_core.checkpoint.manifest import MODEL, RESUME, newest_whole
from difftune_core.hooks import Event, MetricsEvent, PhaseEvent, ProgressEvent, StopKind
from tests.core.conftest import RecordingHooks

Moment = Callable[[list[Event]], bool]
"""Whether it has come, from the events up to now, the newest last."""


class CuttingHooks(RecordingHooks):
    """Asks for a pause from a moment on."""

    def __init__(self, moment: Moment) -> None:
        super().__init__()
        self._moment = moment
        self._come = False

    def emit(self, event: Event) -> None:
        super().emit(event)
        self._come = self._come or self._moment(self.events)

    def stop_requested(self) -> StopKind | None:
        return "pause" if self._come else None


def within(phase: str, *, occurrence: int = 1) -> Moment:
    """Between the first and the second sign of progress after the phase was entered so many times."""

    def come(events: list[Event]) -> bool:
        entered = [e for e in events if isinstance(e, PhaseEvent) and e.phase == phase]
        newest = events[-1]
        return len(entered) == occurrence and isinstance(newest, ProgressEvent) and newest.phase == phase

    return come


def in_references(step: int) -> Moment:
    """While what the figures are read beside is sampled, after the last evaluation, which is that of `step`."""

    def come(events: list[Event]) -> bool:
        judged = [
            e for e in events if isinstance(e, MetricsEvent) and e.step == step and "eval_l2_from_base" in e.values
        ]
        newest = events[-1]
        return bool(judged) and isinstance(newest, ProgressEvent) and newest.phase == "evaluating"

    return come


def saved_step(out: Path) -> int:
    found = newest_whole(out / "checkpoints")
    return 0 if found is None else found[1].step


def outcome_of(out: Path) -> dict[str, Any]:
    """Digest of the last checkpoint, and what the report says of evaluations and the best of them."""
    found = newest_whole(out / "checkpoints")
    assert found is not None
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    evaluations = [{k: v for k, v in entry.items() if k != "seconds"} for entry in report["evaluations"]]
    digest = hashlib.sha256(b"".join((found[0] / name).read_bytes() for name in (MODEL, RESUME))).hexdigest()
    told = {name: report[name] for name in ("best", "delivered_step", "curves")}
    return {"step": found[1].step, "digest": digest, "evaluations": evaluations, **told}
