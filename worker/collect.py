"""Checkpoints beyond those that a job keeps, and objects that no row names: what was deleted while the store did not
answer, what lost attempts had uploaded.

An object is looked at only when it is older than the grace age, and never while somebody works on its subject: an
attempt writes the rows of its reports only when it ends, which may be a week after it has uploaded the first. Where
room is short, what ended attempts have left goes at once: keys name the fence, and only who holds it can write rows.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import groupby

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.checkpoints import keeping
from api.db import Database
from api.jobs.models import Job
from api.storage import ObjectInfo, ObjectStore
from api.storage.cleaning import delete_objects
from api.subjects.references import named_in, swept
from api.work.models import WorkItem
from api.work.repository import Lease
from api.work.states import WorkState

_ATTEMPT = re.compile(r"[a-z_]+/(?P<subject>[^/]+)/(?P<fence>\d{1,18})/")
log = structlog.get_logger(__name__)


def collect(database: Database, store: ObjectStore, grace_s: float) -> int:
    """Delete what no row names and is older than `grace_s`; how many objects that were.

    Objects are listed before rows are read: a row that comes in between saves its object. Several may do this at once.
    """
    collected = 0
    for folder in swept():
        for subject_id, objects in _old_by_subject(store, folder, grace_s):
            with database.read() as session:
                if _is_worked_on(session, subject_id):
                    continue
                kept = named_in(session, folder, subject_id)
            for found in [found for found in objects if found.key not in kept]:
                store.delete(found.key)
                log.info("object_collected", key=found.key, bytes=found.bytes)
                collected += 1
    return collected


def collect_ended(database: Database, store: ObjectStore, prefix: str = "") -> int:
    """Delete what attempts that have ended uploaded and no row names, however young; how many objects that were.

    Objects are listed before rows are read, as in `collect`. `prefix` begins the keys that are looked at.
    """
    collected = 0
    for folder in (name for name in swept() if not prefix or prefix.startswith(f"{name}/")):
        listed = ((found, _ATTEMPT.match(found.key)) for found in store.list(prefix or f"{folder}/"))
        of_attempts = ((found, matched) for found, matched in listed if matched is not None)
        for subject_id, pairs in groupby(of_attempts, key=lambda pair: pair[1]["subject"]):
            found = list(pairs)
            with database.read() as session:
                held, kept = _fence_in_work(session, subject_id), named_in(session, folder, subject_id)
            gone = [info for info, matched in found if int(matched["fence"]) != held and info.key not in kept]
            for info in gone:
                store.delete(info.key)
                log.info("object_collected", key=info.key, bytes=info.bytes)
            collected += len(gone)
    return collected


def collect_attempt(database: Database, store: ObjectStore, lease: Lease) -> None:
    """Delete what an attempt that has ended uploaded and no row names: on a full disk each would leave a checkpoint."""
    for folder in swept():
        try:
            collect_ended(database, store, f"{folder}/{lease.subject_id}/{lease.fence}/")
        except (OSError, SQLAlchemyError) as error:  # the sweep looks again
            log.warning("attempt_not_collected", folder=folder, error=str(error))


def collect_checkpoints(database: Database, store: ObjectStore) -> int:
    """Delete the checkpoints that were needed when their jobs let go of them and are not any more; objects deleted."""
    with database.read() as session:
        with_surplus = keeping.jobs_with_surplus(session)
    collected = 0
    for job_id in with_surplus:
        with database.write() as session:
            job = session.get(Job, job_id, with_for_update=True, populate_existing=True)
            keys = [] if job is None else keeping.collect_surplus(session, job)
        delete_objects(store, keys)
        collected += len(keys)
    return collected


def _old_by_subject(store: ObjectStore, folder: str, grace_s: float) -> Iterator[tuple[str, list[ObjectInfo]]]:
    """Subject ids and their old objects, whose keys are `folder/SUBJECT/...`."""
    before = time.time() - grace_s
    listed = (found for found in store.list(f"{folder}/") if found.modified is not None and found.modified < before)
    for subject_id, objects in groupby(listed, key=lambda found: found.key.split("/")[1]):
        yield subject_id, list(objects)


def _is_worked_on(session: Session, subject_id: str) -> bool:
    query = select(WorkItem.id).where(WorkItem.subject_id == subject_id, WorkItem.state != WorkState.DONE)
    return session.scalar(query.limit(1)) is not None


def _fence_in_work(session: Session, subject_id: str) -> int | None:
    query = select(WorkItem.fence).where(WorkItem.subject_id == subject_id, WorkItem.state == WorkState.LEASED)
    return session.scalar(query)
