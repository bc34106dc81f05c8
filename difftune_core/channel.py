"""Two ways to listen to a run: the supervisor's pipes, or a terminal."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from pathlib import Path

from pydantic import ValidationError

from difftune_core.hooks import (
    BestEvent,
    CheckpointEvent,
    Command,
    Event,
    LogEvent,
    MetricsEvent,
    OutcomeEvent,
    PhaseEvent,
    ProgressEvent,
    ResumeEvent,
    SampleEvent,
    StopKind,
)

_PRINTED_EVERY_S = 1.0
_ORPHANED = 75  # exit status: the supervisor is gone, nothing was saved


class PipeHooks:
    """JSON lines on two inherited pipes. A closed command pipe means that nobody listens any more: exit at once."""

    def __init__(self, events_fd: int, commands_fd: int) -> None:
        """Take over both descriptors and start to read commands."""
        self._events = os.fdopen(events_fd, "wb", buffering=0)
        self._commands = os.fdopen(commands_fd, "rb")
        self._writing = threading.Lock()
        self._requested: StopKind | None = None
        self._acknowledged: set[str] = set()
        self._work: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="commands", daemon=True).start()

    def emit(self, event: Event) -> None:
        """Write one line; the supervisor drains the pipe."""
        line = event.model_dump_json().encode() + b"\n"
        with self._writing:
            while line:  # an unbuffered pipe may take a long line in pieces
                line = line[self._events.write(line) or 0 :]

    def stop_requested(self) -> StopKind | None:
        """Return the stop that the supervisor has requested last, or None."""
        return self._requested

    def release(self, checkpoint: Path) -> bool:
        """Return whether the supervisor has stored that checkpoint."""
        return checkpoint.name in self._acknowledged

    def next_work(self) -> list[str]:
        """Wait for the next request; what was asked of the one before counts no more."""
        return self._work.get()

    def _listen(self) -> None:
        for line in self._commands:
            try:
                self._obey(Command.model_validate_json(line))
            except ValidationError:
                continue  # a newer supervisor may know commands that we do not
        os._exit(_ORPHANED)

    def _obey(self, command: Command) -> None:
        if command.type == "ack" and command.checkpoint:
            self._acknowledged.add(command.checkpoint)
        elif command.type in {"stop", "pause"}:
            self._requested = "pause" if command.type == "pause" else "stop"
        elif command.type == "work" and command.arguments:
            self._requested = None
            self._work.put(command.arguments)


class SilentHooks:
    """Nobody listens, and nobody requests anything."""

    def emit(self, event: Event) -> None:
        """Tell nothing: nobody listens."""

    def stop_requested(self) -> StopKind | None:
        """Return None: nobody requests a stop; Ctrl-C ends the process."""
        return None

    def release(self, checkpoint: Path) -> bool:  # noqa: ARG002  # the protocol's shape
        """Keep every checkpoint: nobody acknowledges them."""
        return False


class ConsoleHooks(SilentHooks):
    """Progress for a person at a terminal."""

    def __init__(self) -> None:
        """Make a terminal's channel; nothing is printed yet."""
        self._progress: ProgressEvent | None = None
        self._progress_at = 0.0

    def emit(self, event: Event) -> None:
        """Print what matters, and progress about once a second."""
        if isinstance(event, ProgressEvent) and not self._is_news(event):
            return
        text = _sentence(event)
        if text:
            sys.stderr.write(text + "\n")

    def _is_news(self, event: ProgressEvent) -> bool:
        now, last = time.monotonic(), self._progress
        same = last is not None and (last.phase, last.done, last.total) == (event.phase, event.done, event.total)
        if same or (event.done < event.total and now - self._progress_at < _PRINTED_EVERY_S):
            return False
        self._progress, self._progress_at = event, now
        return True


def _sentence(event: Event) -> str | None:
    text: str | None = None
    match event:
        case PhaseEvent():
            text = f"{event.phase.replace('_', ' ')} ..."
        case ProgressEvent():
            text = f"  {event.phase.replace('_', ' ')}: {event.done}/{event.total}"
        case MetricsEvent():
            text = f"  step {event.step}: " + "  ".join(f"{k} {v:.5g}" for k, v in event.values.items())
        case CheckpointEvent():
            text = f"  checkpoint {event.name}"
        case ResumeEvent():
            how = f"continued, not exactly: {', '.join(event.changed)} changed" if event.changed else "exactly"
            text = f"  resumed at step {event.step} ({how})"
        case BestEvent():
            text = f"  best {event.metric} so far: {event.value:.5g}"
        case SampleEvent():
            text = f"  {event.num_images} sample images: {event.file.path}"
        case LogEvent():
            text = f"  {event.message}"
        case OutcomeEvent():
            text = event.code + (f": {event.message}" if event.message else "")
    return text
