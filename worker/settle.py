"""What the end of an attempt means for its work item and its subject; for supervisors and for the sweep alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session

from api.settings import Settings
from api.subjects.files import Result
from api.subjects.kinds import Kind, kind_of
from api.work import repository
from api.work.endings import SUCCEEDED, Ending, Outcome, Settled, Verdict
from api.work.models import WorkItem
from worker.failures import judge


def admit(session: Session, item: WorkItem) -> bool:
    """Tell the subject that a worker has claimed it; False, and the item is done, if nobody wants it any more."""
    try:
        wanted = kind_of(item.kind).admit(session, item)
    except NoResultFound:  # the subject was deleted
        wanted = False
    if not wanted:
        repository.finish(session, item, "not_wanted")
    return wanted


def settle(
    session: Session,
    item: WorkItem,
    ending: Ending,
    *,
    settings: Settings,
    files: Sequence[Result] = (),
    found: Any = None,
) -> Settled:
    """Move the item, which is locked, and its subject on by how the attempt has ended and what it has brought."""
    kind = kind_of(item.kind)
    try:
        end_step = kind.got_to(session, item.subject_id)
        verdict = None
        if ending.code != SUCCEEDED:
            verdict = _verdict(session, item, ending, kind, end_step=end_step, settings=settings)
        settled = kind.settle(session, item.subject_id, Outcome(ending, verdict, files, found))
    except NoResultFound:
        end_step, verdict, settled = None, None, Settled("not_wanted")
    if settled.again and verdict is not None:
        delay_s = verdict.delay_s or 0.0
        repository.requeue(session, item, settled.reason, delay_s=delay_s, end_step=end_step)
    else:
        repository.finish(session, item, settled.reason, end_step=end_step)
    return settled


def _verdict(
    session: Session, item: WorkItem, ending: Ending, kind: Kind, *, end_step: int | None, settings: Settings
) -> Verdict:
    """The verdict over this attempt and those before it since the last one that got on."""
    earlier: list[str] = []
    for attempt in repository.attempts(session, item.id):
        if attempt.fence == item.fence:
            if (end_step or 0) > (attempt.start_step or 0):
                break
            continue
        if (attempt.end_step or 0) > (attempt.start_step or 0):
            break
        earlier.append(attempt.reason or "worker_lost")
    most, delay_s = settings.max_attempts, settings.retry_delay_s
    return judge(ending, earlier, max_attempts=most, retry_delay_s=delay_s, child=kind.child)
