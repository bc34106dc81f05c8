from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from difftune_core.hooks import Event, LogEvent, OutcomeEvent, PhaseEvent, ProgressEvent, SpanEvent, StopKind
from difftune_core.tracing import traced

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Listener:
    """Hooks that remember what they are told."""

    def __init__(self) -> None:
        self.told: list[Event] = []

    def emit(self, event: Event) -> None:
        self.told.append(event)

    def stop_requested(self) -> StopKind | None:
        return "pause"

    def release(self, checkpoint: Path) -> bool:
        return checkpoint.name == "step-00000001"


def run(*events: Event, traceparent: str = f"00-{TRACE}-{PARENT}-01") -> list[Event]:
    listener = Listener()
    hooks = traced(listener, "train", {"TRACEPARENT": traceparent})
    for event in events:
        hooks.emit(event)
    return listener.told


def test_phases_become_spans_of_the_trace_that_the_environment_names() -> None:
    events: list[Event] = [
        PhaseEvent(phase="caching_latents"),
        PhaseEvent(phase="caching_latents"),  # two data sets, one phase
        PhaseEvent(phase="training"),
        ProgressEvent(phase="training", done=5, total=20),
        ProgressEvent(phase="training", done=20, total=20),
        PhaseEvent(phase="evaluating"),
        OutcomeEvent(code="succeeded"),
    ]
    told = run(*events)
    assert [event for event in told if not isinstance(event, SpanEvent)] == events
    spans = [event for event in told if isinstance(event, SpanEvent)]
    assert [s.name for s in spans] == ["starting", "caching_latents", "training", "evaluating", "trainer train"]
    *phases, root = spans
    assert {span.trace_id for span in spans} == {TRACE}
    assert root.parent_id == PARENT
    assert {span.parent_id for span in phases} == {root.span_id}
    assert len({span.span_id for span in spans}) == len(spans)
    assert phases[2].attributes == {"difftune.progress.done": 20, "difftune.progress.total": 20}
    assert [span.error for span in spans] == [None] * 5
    assert all(s.end_ns <= t.start_ns for s, t in pairwise(phases))
    assert root.start_ns <= phases[0].start_ns
    assert phases[-1].end_ns <= root.end_ns
    assert told[-1] == events[-1], "nothing follows the outcome"


def test_a_failure_is_named_in_the_phase_and_the_run_without_its_text() -> None:
    told = run(PhaseEvent(phase="training"), OutcomeEvent(code="diverged", message="of secret.png"))
    spans = [event for event in told if isinstance(event, SpanEvent)]
    assert [(span.name, span.error) for span in spans] == [
        ("starting", None),
        ("training", "diverged"),
        ("trainer train", "diverged"),
    ]
    assert not any("secret" in span.model_dump_json() for span in spans)


def test_what_has_ended_was_told_before_a_kill() -> None:
    told = run(PhaseEvent(phase="loading_model"), PhaseEvent(phase="training"))
    assert [event.name for event in told if isinstance(event, SpanEvent)] == ["starting", "loading_model"]


@pytest.mark.parametrize(
    "traceparent",
    ["", f"00-{TRACE}-{PARENT}-00", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-01", "x"],
)
def test_without_a_sampled_trace_there_are_no_spans(traceparent: str) -> None:
    events: list[Event] = [PhaseEvent(phase="training"), OutcomeEvent(code="succeeded")]
    assert run(*events, traceparent=traceparent) == events


def test_questions_reach_who_listens() -> None:
    hooks = traced(Listener(), "train", {"TRACEPARENT": f"00-{TRACE}-{PARENT}-03"})
    hooks.emit(LogEvent(message="hello"))
    assert hooks.stop_requested() == "pause"
    assert hooks.release(Path("step-00000001"))
    assert not hooks.release(Path("step-00000002"))
