"""What a worker does for one attempt at a kind of work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from pkgutil import resolve_name
from typing import Any, ClassVar

from sqlalchemy.orm import Session

from api.subjects.files import Result
from api.subjects.kinds import kind_of
from api.work.endings import SUCCEEDED, Ending
from difftune_core.hooks import ArtifactEvent, Event, ProgressEvent
from worker.child import Child
from worker.progress import ProgressNotes
from worker.results import store_result
from worker.run import Run


class Activity(ABC):
    """One attempt: what its child process is given, and what becomes of what it says.

    Files that the child names are stored and get their rows, and a progress is noted, without more words.
    """

    command: ClassVar[str] = ""
    """Subcommand of `python -m difftune_core`; a kind with a program of its own has none."""
    least_files: int = 1
    """Files that a child which has succeeded has brought; one with fewer has crashed."""
    goes_on: ClassVar[bool] = False
    """Whether the next attempt on this node goes on from what this one leaves in the workspace."""

    def __init__(self, run: Run) -> None:
        """Make the attempt's activity; nothing happens yet."""
        self.run = run
        self.kind = kind_of(run.lease.kind)
        self.num_threads = 1
        self.stored: list[Result] = []
        """Files whose rows are written with the end of the attempt."""
        self.found: Any = None
        """What the kind's `settle` is told beside files."""
        self._progress = ProgressNotes(run, self._note)

    def program(self) -> list[str]:
        """Return what the child's command line begins with; `--events-fd` and `--commands-fd` end it."""
        return [*self.run.tools.trainer_command, self.command]

    @abstractmethod
    def prepare(self) -> list[str] | None:
        """Fetch what this node lacks; the child's arguments, or None if nothing is left to do.

        Raises:
            TaskError: an input is missing or damaged.
        """

    def spawn(self, arguments: list[str], *, gpu: str | None, **options: Any) -> Child:
        """Start the child; `gpu` is what it may use, `options` are those of `worker.child.Child`."""
        del gpu
        return Child([*self.program(), *arguments], **options)

    def begin(self, child: Child) -> None:  # noqa: B027  # most have nothing to tell it
        """Tell a child that has started what it must know."""

    def handle(self, event: Event) -> None:
        """Hear an event of the child: note a progress, store a file."""
        if isinstance(event, ProgressEvent):
            self._progress.heard(event)
        elif isinstance(event, ArtifactEvent):
            self._progress.flush()
            self.stored.append(store_result(self.run, event, self.prefix))

    def idle(self) -> None:
        """Do what is due; the supervisor calls this several times a second."""
        self._progress.flush_if_due()

    def complete(self, ending: Ending) -> Ending:
        """Write what is left once the child has ended; how the attempt has ended, then."""
        self._progress.flush()
        if ending.code == SUCCEEDED and len(self.stored) < self.least_files:
            return Ending("crashed", f"The {self.kind.child} ended without all of its files.")
        return ending

    def release(self) -> None:  # noqa: B027  # most have nothing
        """Let go of what is left of the attempt, however it has ended."""

    @property
    def prefix(self) -> str:
        """Beginning of the keys of what the attempt stores, which no other attempt's keys share."""
        return f"{self.kind.folder}/{self.run.lease.subject_id}/{self.run.lease.fence}"

    def _note(self, session: Session, event: ProgressEvent) -> None:
        self.kind.progressed(session, self.run.lease.subject_id, done=event.done, total=event.total)


@cache
def activity_of(kind: str) -> type[Activity]:
    """The class that carries out a kind of work.

    Raises:
        KeyError: there is no such kind.
    """
    found: type[Activity] = resolve_name(kind_of(kind).activity)
    return found
