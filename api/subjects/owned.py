"""Kinds of work on subjects that one tenant has, sees, cancels and deletes."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy.orm import Session

from api.errors import ConflictError, NotYetError
from api.subjects import repository
from api.subjects.models import OwnedSubject
from api.subjects.simple import SimpleKind
from api.subjects.states import FINAL, Status
from api.work import service as work

OwnedT = TypeVar("OwnedT", bound=OwnedSubject)


class OwnedKind(SimpleKind[OwnedT]):
    """Adds to `SimpleKind` what a tenant does with its subject: see, cancel and delete it."""

    def get(self, session: Session, tenant_id: str, id_: str) -> OwnedT:
        """The tenant's subject.

        Raises:
            NotFoundError: there is none.
        """
        return repository.get(session, self.row, tenant_id, id_)

    def cancel(self, session: Session, tenant_id: str, id_: str) -> OwnedT:
        """End a subject that is not final; whoever works on it stops.

        Raises:
            NotFoundError: there is none.
            ConflictError: it is final.
        """
        self.get(session, tenant_id, id_)
        item = repository.open_work(session, id_)
        subject = self.lock(session, id_)
        if subject.status in FINAL:
            message = f"The {self.noun} {id_} is {subject.status} and cannot be cancelled."
            raise ConflictError(f"{subject.noun}_not_cancellable", message)
        work.request_stop(item)
        subject.end(Status.CANCELLED)
        return subject

    def delete(self, session: Session, tenant_id: str, id_: str) -> list[str]:
        """Delete a final subject with its work and its files; keys to delete after the commit.

        Raises:
            NotFoundError: there is none.
            NotYetError: it is not final.
        """
        self.get(session, tenant_id, id_)
        repository.open_work(session, id_)  # locked before the subject, as everywhere
        subject = repository.lock_seen(session, self.row, tenant_id, id_)
        if subject.status not in FINAL:
            message = f"The {self.noun} {id_} is {subject.status}; cancel it first."
            raise NotYetError(f"{subject.noun}_not_final", message)
        return repository.remove(session, subject)
