"""What must hold after a storm, over every row and object."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sqlalchemy import select

from api.db import Database
from api.jobs.models import Checkpoint, Event, Job
from api.jobs.states import FINAL
from api.storage import ObjectStore
from api.work.models import Attempt, WorkItem
from api.work.states import WorkKind
from benchmarks.storm import witness
from benchmarks.storm.cluster import LEASE_S
from benchmarks.storm.nemesis import Fault
from benchmarks.storm.trainer import STEPS, chain

_CLOCKS_S = 0.05  # of one machine, the database's and ours


@dataclass
class Findings:
    """Counts, each of which must be 0, and how long recoveries took."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged jobs without their right result."""
    duplicated: list[str] = field(default_factory=list)
    """Jobs made or worked on twice."""
    stuck: list[str] = field(default_factory=list)
    """Jobs that were not final long after all had healed."""
    stale_writes: list[str] = field(default_factory=list)
    """Writes of a worker to a job that was not in its hands, or whose attempt at it had ended."""
    disturbed: list[str] = field(default_factory=list)
    """Attempts that were taken from a worker nothing had happened to."""
    recoveries_s: list[float] = field(default_factory=list)
    """Seconds from the kill -9 of a worker to the next attempt of what it had in work."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not (self.lost or self.duplicated or self.stuck or self.stale_writes or self.disturbed)


def examined(
    database: Database, store: ObjectStore, acknowledged: dict[str, set[str]], faults: Sequence[Fault]
) -> Findings:
    """Look at everything."""
    found = Findings()
    with database.read() as session:
        jobs = {job.id: job for job in session.scalars(select(Job))}
        query = select(WorkItem.subject_id, Attempt).join(WorkItem).where(WorkItem.kind == WorkKind.TRAIN)
        attempts: dict[str, list[Attempt]] = defaultdict(list)
        for job_id, attempt in session.execute(query.order_by(Attempt.fence)):
            attempts[job_id].append(attempt)
        checkpoints: dict[str, list[Checkpoint]] = defaultdict(list)
        for checkpoint in session.scalars(select(Checkpoint).order_by(Checkpoint.step)):
            checkpoints[checkpoint.job_id].append(checkpoint)
        told = Counter(
            (event.job_id, event.data["step"])
            for event in session.scalars(select(Event).where(Event.type == "metrics"))
            if event.data is not None
        )
    seeds = Counter(job.config["seed"] for job in jobs.values())
    found.duplicated += [f"seed {seed}: {count} jobs" for seed, count in seeds.items() if count > 1]
    for key, ids in acknowledged.items():
        if len(ids) > 1:
            found.duplicated.append(f"{key}: {sorted(ids)}")
        found.lost += [f"{id_}: not there" for id_ in ids if id_ not in jobs]
    for job in jobs.values():
        _check_end(found, job, checkpoints[job.id], store)
        _check_attempts(found, job.id, attempts[job.id], checkpoints[job.id], faults)
    found.stale_writes += witness.stale_writes(database)
    found.stale_writes += [f"{job_id}: step {step} told twice" for (job_id, step), count in told.items() if count > 1]
    return found


def _check_end(found: Findings, job: Job, checkpoints: Sequence[Checkpoint], store: ObjectStore) -> None:
    if job.status not in FINAL:
        found.stuck.append(f"{job.id}: {job.status}")
        return
    if job.status != "succeeded" or not checkpoints or checkpoints[-1].step != STEPS:
        found.lost.append(f"{job.id}: {job.status} {job.error_code}")
        return
    for checkpoint in checkpoints:
        for file in checkpoint.files:
            content = _content(store, str(file["key"]))
            if content is None or hashlib.sha256(content).hexdigest() != file["sha256"]:
                found.lost.append(f"{job.id}: {file['key']} is {'missing' if content is None else 'other bytes'}")
    weights = next(str(file["key"]) for file in checkpoints[-1].files if file["name"] == "model.safetensors")
    if _content(store, weights) != chain(STEPS).encode():
        found.lost.append(f"{job.id}: other weights than without a stop")


def _check_attempts(
    found: Findings,
    job_id: str,
    attempts: Sequence[Attempt],
    checkpoints: Sequence[Checkpoint],
    faults: Sequence[Fault],
) -> None:
    fences = [attempt.fence for attempt in attempts]
    if fences != list(range(1, len(fences) + 1)):
        found.duplicated.append(f"{job_id}: fences {fences}")
    if sum(attempt.reason == "succeeded" for attempt in attempts) > 1:
        found.duplicated.append(f"{job_id}: succeeded twice")
    ended_at = {attempt.fence: attempt.ended_at for attempt in attempts}
    for checkpoint in checkpoints:
        ended = ended_at.get(checkpoint.fence)
        if ended is not None and checkpoint.created_at > ended + _CLOCKS_S:
            found.stale_writes.append(f"{job_id}: step {checkpoint.step} by attempt {checkpoint.fence}")
    for attempt, following in pairwise(attempts):
        if attempt.ended_at is None or attempt.ended_at > following.started_at + _CLOCKS_S:
            found.duplicated.append(f"{job_id}: attempts {attempt.fence} and {following.fence} at once")
        if attempt.reason == "worker_lost":
            _check_loss(found, job_id, attempt, following, faults)


def _check_loss(found: Findings, job_id: str, lost: Attempt, following: Attempt, faults: Sequence[Fault]) -> None:
    assert lost.ended_at is not None
    own = [f for f in faults if f.kind.endswith("_worker") and f"-{f.pid}-" in lost.worker_id]
    relevant = [*own, *(f for f in faults if f.kind == "kill_postgres")]
    during = [f for f in relevant if f.began < lost.ended_at and f.ended > lost.started_at - LEASE_S]
    if not during:
        found.disturbed.append(f"{job_id}: attempt {lost.fence} of {lost.worker_id}")
    kills = [f.began for f in during if f.kind == "kill_worker" and f.began >= lost.started_at]
    if kills:
        found.recoveries_s.append(following.started_at - kills[0])


def _content(store: ObjectStore, key: str) -> bytes | None:
    try:
        return b"".join(store.read(key))
    except FileNotFoundError:
        return None


def figures(found: Findings) -> dict[str, Any]:
    """Make the figures of the JSON line."""
    recoveries = sorted(found.recoveries_s)
    p99 = recoveries[min(len(recoveries) - 1, int(0.99 * len(recoveries)))] if recoveries else None
    return {
        "lost": len(found.lost),
        "duplicated": len(found.duplicated),
        "stuck": len(found.stuck),
        "stale_writes": len(found.stale_writes),
        "disturbed": len(found.disturbed),
        "recoveries": len(recoveries),
        "recovery_p99_s": None if p99 is None else round(p99, 2),
    }
