"""Jobs as they are answered: three statements at most, for any number of them.

A stored config is rendered once, for as long as its text is remembered. All else is read anew for each answer, whoever
has written it.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pydantic_core import to_json
from sqlalchemy import BindParameter, Connection, Row, Text, and_, bindparam, case, cast, exists, func, or_, select
from sqlalchemy.orm import aliased

from api.coalescing import Answer
from api.jobs.lifecycle import SAMPLE
from api.jobs.models import Checkpoint, Job
from api.jobs.states import JobStatus
from api.schemas import finite, seconds
from api.subjects.models import ResultFile
from api.work.models import Attempt, WorkItem
from api.work.states import WorkKind, WorkState
from difftune_core.config.course import is_open
from difftune_core.config.stored import read_stored
from difftune_core.config.transfer import TransferConfig

AnyRow = Row[*tuple[Any, ...]]
_REMEMBERED = 512
_OF_CONFIG = {
    "method",
    "control",
    "evaluation",
    "samples",
    "checkpoints",
    "resources",
    "seed",
    "num_threads",
    "schema_version",
}
_WAITS_FOR_A_WORKER = (JobStatus.QUEUED, JobStatus.RESUMING)
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)


def shown(connection: Connection, job_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Show each of these jobs that exists, by its id: the fields of `JobOut`, as JSON has them."""
    given = {"ids": job_ids}
    jobs = connection.execute(_JOBS, given).all()
    attempts: dict[str, list[AnyRow]] = defaultdict(list)
    if any(job.has_attempts for job in jobs):
        for attempt in connection.execute(_ATTEMPTS, given):
            attempts[attempt.subject_id].append(attempt)
    files: dict[str, list[str]] = defaultdict(list)
    if any(job.has_files for job in jobs):
        for job_id, file_id in connection.execute(_FILES, given):
            files[job_id].append(file_id)
    return {job.id: _shown(job, attempts[job.id], files[job.id]) for job in jobs}


def answered(job_ids: Sequence[str], connection: Connection) -> dict[str, Answer]:
    """Jobs as they are answered, as JSON."""
    return {
        job_id: Answer(fields["organization_id"], to_json(fields))
        for job_id, fields in shown(connection, job_ids).items()
    }


def _shown(job: AnyRow, attempts: list[AnyRow], files: list[str]) -> dict[str, Any]:
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "status": job.status,
        "status_details": _details(job),
        "created_at": int(job.created_at),
        "started_at": seconds(job.started_at),
        "finished_at": seconds(job.finished_at),
        "estimated_finish": _estimated_finish(job),
        "model": job.start_checkpoint or job.model,
        "base_model": job.model,
        "lineage": job.lineage or [],
        "fine_tuned_model": job.fine_tuned_model,
        "best_checkpoint": job.best_checkpoint,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "retention_set": {"id": job.retention_set, "digest": job.retention_digest} if job.retention_digest else None,
        **_rendered(job.config),
        "suffix": job.suffix,
        "metadata": job.metadata_,
        "priority": job.priority,
        "attempts": _attempts(attempts),
        "recoveries": job.recoveries,
        "result_files": files,
        "error": _error(job),
        "organization_id": job.tenant_id,
        "trained_tokens": None,
        "integrations": None,
    }


@lru_cache(maxsize=_REMEMBERED)
def _rendered(config: str) -> dict[str, Any]:
    """The fields that a stored config gives; by its text, so that nothing is remembered of another one."""
    stored = read_stored(TransferConfig, json.loads(config))
    method = stored.method
    given = method.hyperparameters
    fields = stored.model_dump(mode="json", include=_OF_CONFIG)
    if is_open(stored):
        fields["method"][method.type]["hyperparameters"]["max_steps"] = None
    legacy = {"batch_size": given.batch_size, "n_epochs": given.epochs or "auto", "learning_rate_multiplier": "auto"}
    return {**fields, "hyperparameters": legacy}


def _details(job: AnyRow) -> dict[str, Any]:
    return {
        "phase": job.phase,
        "step": job.step,
        "total_steps": job.total_steps,
        "done": job.phase_done,
        "total": job.phase_total,
        "queue_position": job.queue_position or None,
        "steps_per_second": finite(job.steps_per_second),
        "slot_released": job.status == JobStatus.PAUSED,
        "latest_checkpoint": job.latest_checkpoint,
    }


def _attempts(attempts: list[AnyRow]) -> list[dict[str, Any]]:
    """Attempts in their order. Workers are numbered: their names are of the machines, which tenants share."""
    workers = list(dict.fromkeys(attempt.worker_id for attempt in attempts))
    names = {worker_id: f"worker_{number}" for number, worker_id in enumerate(workers, start=1)}
    return [
        {
            "attempt": number,
            "worker_id": names[attempt.worker_id],
            "started_at": int(attempt.started_at),
            "ended_at": seconds(attempt.ended_at),
            "start_step": attempt.start_step,
            "end_step": attempt.end_step,
            "reason": attempt.reason,
            "resumed": None if attempt.changed is None else "continued" if attempt.changed else "exact",
            "changed": attempt.changed or [],
        }
        for number, attempt in enumerate(attempts, start=1)
    ]


def _estimated_finish(job: AnyRow) -> int | None:
    speed = finite(job.steps_per_second)
    return (
        int(time.time() + (job.total_steps - job.step) / speed) if speed and job.status == JobStatus.RUNNING else None
    )


def _error(job: AnyRow) -> dict[str, Any] | None:
    if job.error_code is None:
        return None
    return {"code": job.error_code, "message": job.error_message or "", "param": job.error_param}


def _queue_position() -> Any:
    """1 for the training that is claimed next of the tenant's own, 0 or null for a job that waits for no worker.

    Tenants take turns: what others have in the queue is not the tenant's to know, and says little of the wait.
    """
    own, other = aliased(WorkItem), aliased(WorkItem)
    waiting = {"state": WorkState.QUEUED, "kind": WorkKind.TRAIN, "tenant_id": Job.tenant_id}
    waits = [getattr(item, name) == value for item in (own, other) for name, value in waiting.items()]
    not_younger = or_(other.created_at < own.created_at, and_(other.created_at == own.created_at, other.id <= own.id))
    not_after = or_(other.priority > own.priority, and_(other.priority == own.priority, not_younger))
    ahead = select(func.count()).select_from(own).join(other, not_after).where(own.subject_id == Job.id, *waits)
    return case((Job.status.in_(_WAITS_FOR_A_WORKER), ahead.correlate(Job).scalar_subquery()))


_NEWEST = select(Checkpoint.id).where(Checkpoint.job_id == Job.id).order_by(Checkpoint.step.desc()).limit(1)
_JOBS = select(
    *(column for column in Job.__table__.c if column.name not in {"config", "metadata"}),
    Job.metadata_.label("metadata_"),
    cast(Job.config, Text).label("config"),
    _NEWEST.correlate(Job).scalar_subquery().label("latest_checkpoint"),
    _queue_position().label("queue_position"),
    exists().where(ResultFile.subject_id == Job.id, ResultFile.kind != SAMPLE).label("has_files"),
    exists().where(WorkItem.subject_id == Job.id, WorkItem.fence > 0).label("has_attempts"),
).where(Job.id.in_(_IDS))
_FILES = (
    select(ResultFile.subject_id, ResultFile.id)
    .where(ResultFile.subject_id.in_(_IDS), ResultFile.kind != SAMPLE)
    .order_by(ResultFile.id)
)
_ATTEMPTS = (
    select(WorkItem.subject_id, *Attempt.__table__.c)
    .join(Attempt, Attempt.work_item_id == WorkItem.id)
    .where(WorkItem.subject_id.in_(_IDS), WorkItem.kind == WorkKind.TRAIN)
    .order_by(Attempt.started_at, Attempt.fence)
)
