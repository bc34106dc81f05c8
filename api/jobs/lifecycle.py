"""What a worker does to a job, each in the caller's transaction, which holds the job's work item.

Rows are locked item first, then job; whoever needs both keeps this order.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.orm import Session

from api.ids import new_id
from api.jobs import events
from api.jobs.models import Checkpoint, Job, Metric
from api.jobs.moves import end, move, reset_phase
from api.jobs.states import JobStatus
from api.storage import StoredFile
from api.subjects import files
from api.subjects import repository as subjects
from api.subjects.files import Result
from api.subjects.models import ResultFile
from difftune_core.hooks import SampleEvent

_IMAGES = "target_images"
SAMPLE = SampleEvent.kind


@dataclass(frozen=True)
class Point:
    """Named values at a step."""

    step: int
    values: dict[str, float] = field(hash=False)


def lock(session: Session, job_id: str) -> Job:
    """The job, locked for the rest of the transaction."""
    return subjects.lock(session, Job, job_id)


def started(session: Session, job: Job, *, attempt: int) -> None:
    """A worker has claimed the job."""
    job.started_at = job.started_at or time.time()
    reset_phase(job, "starting")
    again = "" if attempt == 1 else f" again (attempt {attempt})"
    move(session, job, JobStatus.RUNNING, f"Fine-tuning job started{again}")


def entered_phase(session: Session, job: Job, phase: str) -> None:
    """The trainer entered a phase."""
    reset_phase(job, phase)
    events.append(session, job, "phase", phase.replace("_", " "), data={"phase": phase})


def progressed(
    session: Session, job: Job, *, phase: str, done: int, total: int, steps_per_second: float | None, announce: bool
) -> None:
    """`done` of `total` units of the phase; only an announced one becomes an event."""
    job.phase, job.phase_done, job.phase_total = phase, done, total
    if phase == "training":
        job.step = done
        job.steps_per_second = steps_per_second if steps_per_second is not None else job.steps_per_second
    if announce:
        data = {"phase": phase, "done": done, "total": total, "steps_per_second": steps_per_second}
        events.append(session, job, "progress", f"{phase.replace('_', ' ')}: {done} of {total}", data=data)


def resumed(session: Session, job: Job, *, step: int, changed: Sequence[str]) -> None:
    """The trainer went on from a checkpoint."""
    how = f"continued, not exactly: {', '.join(changed)} changed" if changed else "exactly"
    data = {"step": step, "exact": not changed, "changed": list(changed)}
    level = "warn" if changed else "info"
    events.append(session, job, "resumed", f"Resumed at step {step} ({how}).", data=data, level=level)


def told(
    session: Session, job: Job, message: str, *, level: str, data: Mapping[str, str | int | float] | None = None
) -> None:
    """A sentence of the trainer for the user, and the same for programs."""
    events.append(session, job, "message", message[:4000], level=level, data=dict(data) if data else None)


def measured(session: Session, job: Job, points: Sequence[Point]) -> None:
    """Metric rows, and one event a step. Values that a former attempt has reported already are left as they are."""
    wanted = {(p.step, n): v for p in points for n, v in p.values.items() if math.isfinite(v)}
    keys = tuple_(Metric.step, Metric.name)
    known_query = select(Metric.step, Metric.name).where(Metric.job_id == job.id, keys.in_(list(wanted)))
    known = {(row.step, row.name) for row in session.execute(known_query)}
    now = time.time()
    by_step: dict[int, dict[str, Any]] = {}
    for (step, name), value in wanted.items():
        if (step, name) not in known:
            session.add(Metric(job_id=job.id, name=name[:64], step=step, value=value, created_at=now))
            by_step.setdefault(step, {})[name] = value
    for step, values in sorted(by_step.items()):
        text = ", ".join(f"{name}={value:.4g}" for name, value in values.items())
        events.append(session, job, "metrics", f"Step {step}: {text}"[:4000], data={"step": step, **values})


def newest_checkpoint(session: Session, job_id: str) -> Checkpoint | None:
    """The checkpoint with the highest step."""
    query = select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.step.desc()).limit(1)
    return session.scalars(query).one_or_none()


def resumable_checkpoints(session: Session, job_id: str) -> list[Checkpoint]:
    """Checkpoints whose resume files are in the store, newest first."""
    query = select(Checkpoint).where(Checkpoint.job_id == job_id, Checkpoint.resume_available)
    return list(session.scalars(query.order_by(Checkpoint.step.desc())))


def newest_step(session: Session, job_id: str) -> int:
    """Step of the newest checkpoint, 0 if there is none."""
    return session.scalar(select(func.max(Checkpoint.step)).where(Checkpoint.job_id == job_id)) or 0


def best_to_deliver(session: Session, job_id: str) -> Checkpoint | None:
    """The best checkpoint so far of a job that delivers its best one."""
    job = session.get_one(Job, job_id)
    return session.get(Checkpoint, job.best_checkpoint) if delivers_best(job) and job.best_checkpoint else None


def has_checkpoint(session: Session, job_id: str, step: int) -> bool:
    """Return whether the job, in this attempt or an earlier one, has saved this step."""
    query = select(Checkpoint.id).where(Checkpoint.job_id == job_id, Checkpoint.step == step)
    return session.scalar(query) is not None


def checkpoint_saved(
    session: Session,
    job: Job,
    *,
    fence: int,
    step: int,
    name: str,
    files: Sequence[StoredFile],
    target_images: int | None = None,
) -> None:
    """A row for a checkpoint whose files are all in the store; that of an earlier attempt stays."""
    if has_checkpoint(session, job.id, step):
        return
    row = Checkpoint(
        id=new_id("ckpt"),
        tenant_id=job.tenant_id,
        job_id=job.id,
        step=step,
        fence=fence,
        name=name,
        files=[{"name": f.filename, "key": f.key, "bytes": f.bytes, "sha256": f.sha256} for f in files],
        created_at=time.time(),
    )
    session.add(row)
    if target_images is not None and session.get(Metric, (job.id, _IMAGES, step)) is None:  # it may not be logged
        images = float(target_images)
        session.add(Metric(job_id=job.id, name=_IMAGES, step=step, value=images, created_at=time.time()))
    job.step = max(job.step, step)
    events.append(session, job, "checkpoint", f"Checkpoint at step {step}.", data={"step": step, "id": row.id})


def samples_of(job_id: str) -> Select[ResultFile]:
    """Rows of stored sample images, each made after those of the steps before."""
    return select(ResultFile).where(ResultFile.subject_id == job_id, ResultFile.kind == SAMPLE)


def sample(session: Session, job_id: str, step: int) -> ResultFile | None:
    """The sample images of a step that the job, in this attempt or an earlier one, has stored."""
    return session.scalar(samples_of(job_id).where(ResultFile.step == step))


def sample_drawn(session: Session, job: Job, stored: Result, *, count: int) -> None:
    """Sample images of a step are in the store; those of an earlier attempt stay."""
    if sample(session, job.id, stored.step) is not None:
        return
    files.add(session, job, [stored])
    row = sample(session, job.id, stored.step)
    assert row is not None, "added"
    data = {"step": stored.step, "num_images": count, "file": row.id, "url": f"/v1/files/{row.id}/content"}
    events.append(session, job, SAMPLE, f"{count} sample images of step {stored.step}.", data=data)


def best_found(session: Session, job: Job, *, step: int, metric: str, value: float) -> None:
    """The checkpoint of this step is the best so far; one that is known as such already is not told of again."""
    row = session.scalars(select(Checkpoint).where(Checkpoint.job_id == job.id, Checkpoint.step == step)).one_or_none()
    if row is None or row.id == job.best_checkpoint:
        return
    job.best_checkpoint = row.id
    data = {"step": step, "id": row.id, "metric": metric, "value": value}
    events.append(session, job, "best", f"Best {metric} so far at step {step}: {value:.6g}.", data=data)


def drop_old_resume_files(session: Session, job: Job, *, resume_file: str, keep: int) -> list[str]:
    """Forget the resume files of all but the best and the newest `keep` checkpoints; keys to delete after a commit."""
    query = select(Checkpoint).where(Checkpoint.job_id == job.id, Checkpoint.resume_available)
    dropped: list[str] = []
    rows = session.scalars(query.order_by(Checkpoint.step.desc()).offset(keep))
    for row in [row for row in rows if row.id != job.best_checkpoint]:
        dropped += [f["key"] for f in row.files if f["name"] == resume_file]
        row.files = [f for f in row.files if f["name"] != resume_file]
        row.resume_available = False
    return dropped


def succeeded(session: Session, job: Job) -> None:
    """The job is done; its newest checkpoint is the result, or its best one if the config says so."""
    newest = newest_checkpoint(session, job.id)
    best = job.best_checkpoint if delivers_best(job) else None
    job.fine_tuned_model = best or (newest.id if newest else None)
    job.step = newest.step if newest else job.step
    end(session, job, JobStatus.SUCCEEDED, "The job has successfully completed")


def delivers_best(job: Job) -> bool:
    """Return whether the result is the best checkpoint, not the last."""
    return job.transfer.evaluation.deliver == "best"


def paused(session: Session, job: Job) -> None:
    """The job has saved its state and holds no worker."""
    reset_phase(job, None)
    move(session, job, JobStatus.PAUSED, "Fine-tuning job paused")


def requeued(session: Session, job: Job, *, message: str) -> None:
    """The attempt is over and another follows; `message` says why."""
    job.recoveries += 1
    reset_phase(job, None)
    move(session, job, JobStatus.QUEUED, f"{message} Waiting for another attempt."[:4000], level="warn")
