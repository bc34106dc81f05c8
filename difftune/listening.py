"""What a run in this process tells, for callbacks and for the board."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from difftune.board import Board
from difftune_core.channel import SilentHooks
from difftune_core.hooks import (
    BestEvent,
    CheckpointEvent,
    Event,
    LogEvent,
    MetricsEvent,
    PhaseEvent,
    ProgressEvent,
    StopKind,
)


@dataclass(frozen=True)
class Step:
    """A step of training, as a callback is told of it."""

    step: int
    """Number of steps that are done."""
    total: int
    """Number of steps of the run."""
    figures: dict[str, float] = field(default_factory=dict)
    """What was measured: `train_loss`, `target_loss`, `retention_loss`, `grad_norm`, `learning_rate`."""


class Listener(SilentHooks):
    """The hooks of a run in this process. Every checkpoint stays."""

    def __init__(
        self,
        title: str,
        *,
        show: bool,
        on_step: Callable[[Step], object] | None = None,
    ) -> None:
        """Call this after each step, and show the run under a title."""
        self.board = Board(title, show=show)
        self._on_step = on_step
        self._values: dict[str, float] = {}
        self._requested: StopKind | None = None

    def emit(self, event: Event) -> None:
        """Show an event, and hand it on."""
        self._show(event)
        if isinstance(event, ProgressEvent) and event.phase == "training" and self._wants_end(event):
            self.end()

    def _wants_end(self, event: ProgressEvent) -> bool:
        return self._on_step is not None and self._on_step(Step(event.done, event.total, self._values)) is False

    def end(self) -> None:
        """Have the run end in order, with a checkpoint."""
        self._requested = "stop"

    def stop_requested(self) -> StopKind | None:
        """Return whether a callback, or whoever sits at the keyboard, wants the run to end."""
        return self._requested

    def _show(self, event: Event) -> None:
        match event:
            case PhaseEvent():
                self.board.phase(event.phase)
            case ProgressEvent():
                self.board.progress(event.done, event.total)
            case MetricsEvent():
                self._values = event.values
                self.board.figures(event.step, event.values)
            case CheckpointEvent():
                self.board.say(f"checkpoint {event.name}")
            case BestEvent():
                self.board.say(f"best {event.metric} so far: {event.value:.5g}")
            case LogEvent():
                self.board.say(event.message)


@contextmanager
def interruptible(listener: Listener) -> Iterator[None]:
    """A block in which Ctrl-C, or a notebook's interrupt, ends the run in order, and a second one at once."""
    before = signal.getsignal(signal.SIGINT) or signal.default_int_handler
    is_ignored = before == signal.SIG_IGN  # as of a program in the background: its terminal's Ctrl-C is not for it
    if is_ignored or threading.current_thread() is not threading.main_thread():  # another gets no signals
        yield
        return

    def end(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        listener.board.say("the run saves its state and ends; interrupt again to end it at once")
        listener.end()

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
