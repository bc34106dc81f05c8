"""Kinds of work whose subject has one work item and the states of `api.subjects.states`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from sqlalchemy.orm import Session

from api.subjects import files, repository
from api.subjects.files import Result
from api.subjects.kinds import Kind, announce
from api.subjects.models import Counted, Owned
from api.subjects.repository import SubjectT
from api.subjects.states import FINAL, Status
from api.work import repository as work
from api.work.endings import Outcome, Settled
from api.work.models import WorkItem


class SimpleKind(Kind, Generic[SubjectT]):
    """Moves its subject from `queued` over `running` to its end."""

    row: type[SubjectT]

    def lock(self, session: Session, subject_id: str) -> SubjectT:
        """The subject, locked for the rest of the transaction.

        Raises:
            NoResultFound: there is none.
        """
        return repository.lock(session, self.row, subject_id)

    def admit(self, session: Session, item: WorkItem) -> bool:
        """Let a subject that waits run from now on; no other is wanted."""
        subject = self.lock(session, item.subject_id)
        if subject.status != Status.QUEUED:
            return False
        subject.begin()
        reached = self.got_to(session, subject.id)
        if reached is not None:
            work.begin_attempt(session, item, start_step=reached)
        return True

    def settle(self, session: Session, subject_id: str, outcome: Outcome) -> Settled:
        """End the subject, or put it back into the queue, by the outcome."""
        subject, reason, verdict = self.lock(session, subject_id), outcome.ending.code, outcome.verdict
        if subject.status in FINAL:
            return Settled("cancelled" if subject.status == Status.CANCELLED else "not_wanted")
        if self.is_cancel_requested(subject):
            subject.end(Status.CANCELLED)
            return Settled("cancelled")
        if verdict is None:
            self.succeed(session, subject, outcome.files)
            return Settled(reason, kept=True)
        if outcome.again:
            self.requeue(subject)
            return Settled(reason, again=True, over=False)
        self.fail(session, subject, code=verdict.code, message=verdict.message, param=outcome.ending.param)
        return Settled(reason)

    def is_cancel_requested(self, subject: SubjectT) -> bool:
        """Return whether a cancel is requested, of kinds where that is no status of its own."""
        del subject
        return False

    def requeue(self, subject: SubjectT) -> None:
        """Note that the attempt is over and another follows."""
        subject.set_status(Status.QUEUED)

    def succeed(self, session: Session, subject: SubjectT, stored: Sequence[Result]) -> None:
        """End a subject whose files are in the store; what waited for it goes on."""
        self.keep(session, subject, stored)
        if isinstance(subject, Counted):
            subject.done = subject.total
        subject.end(Status.SUCCEEDED)
        session.flush()
        announce(session, subject)

    def fail(self, session: Session, subject: SubjectT, *, code: str, message: str, param: str | None = None) -> None:
        """End a subject that has failed for a reason that the user sees; what waited for it fails by its name."""
        subject.fail(code=code, message=message, param=param)
        session.flush()
        announce(session, subject)

    def keep(self, session: Session, subject: SubjectT, stored: Sequence[Result]) -> None:
        """Write rows for what its last attempt has stored."""
        assert isinstance(subject, Owned), "files belong to tenants"
        files.add(session, subject, stored)

    def progressed(self, session: Session, subject_id: str, *, done: int, total: int) -> None:
        """Note the progress, where the subject has columns for it."""
        subject = self.lock(session, subject_id)
        if isinstance(subject, Counted):
            subject.done, subject.total = done, total
