"""How fast past jobs were, by their events."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.datasets.models import Dataset
from api.jobs import images
from api.jobs.models import Event, Job
from api.jobs.states import JobStatus
from api.work.models import Attempt, WorkItem
from difftune_core.config.plan.circumstances import Rates
from difftune_core.config.plan.seconds import rates_of
from difftune_core.config.transfer import TransferConfig

_LOOKED_AT = 5  # of the newest jobs
_EVENTS = 2000  # phases of a job, at most
_TOLD, _SHORTEST_S = 3, 2.0  # metrics are told about twice a second: steps must have taken longer to be timed by them


def known(session: Session, tenant_id: str, config: TransferConfig, base_digest: str, device: str) -> Rates | None:
    """Rates of the tenant's newest jobs on the same base model, kind of device and adapter; None where there are none.

    Only jobs that one attempt has brought to their end are looked at: their phases follow each other without a wait.
    Probes count where there is nothing else: their few images leave batches half empty.
    """
    jobs = [job for job in _alike(session, tenant_id, base_digest, device) if _is_comparable(job.transfer, config)]
    whole = [job for job in jobs if not _is_probe(job)]
    found: dict[str, float] = {}
    for job in whole or jobs:
        counted = images.of(session, job).trained if session.get(Dataset, job.training_file) else None
        seconds = _seconds(session, job)
        if _is_probe(job) and (took := _seconds_of_steps(session, job)):
            seconds["training"] = took
        for phase, rate in rates_of(seconds, job.transfer, counted).items():
            found[phase] = max(rate, found.get(phase, 0.0))
    return Rates(len(whole or jobs), found, of_probes=not whole) if jobs else None


def _alike(session: Session, tenant_id: str, base_digest: str, device: str) -> list[Job]:
    attempts = (
        select(WorkItem.subject_id)
        .join(Attempt, Attempt.work_item_id == WorkItem.id)
        .group_by(WorkItem.subject_id)
        .having(func.count() == 1, func.max(Attempt.device) == device)
    )
    query = select(Job).where(Job.tenant_id == tenant_id, Job.base_digest == base_digest)
    query = query.where(Job.status == JobStatus.SUCCEEDED, Job.id.in_(attempts)).order_by(Job.id.desc())
    return list(session.scalars(query.limit(_LOOKED_AT)))


def _is_comparable(past: TransferConfig, config: TransferConfig) -> bool:
    """Return whether a step of both does the same for an image: the same is trained in the same way."""
    names = ("gpus", "precision", "activation_checkpointing", "compile")
    same = all(getattr(past.resources, name) == getattr(config.resources, name) for name in names)
    return same and past.method.hyperparameters.adapter.type == config.method.hyperparameters.adapter.type


def _is_probe(job: Job) -> bool:
    return (job.metadata_ or {}).get("difftune") == "probe"


def _seconds_of_steps(session: Session, job: Job) -> float | None:
    """Seconds of all steps of a probe by those after its first, which warms up; None where they were too quick."""
    query = select(Event.created_at, Event.data).where(Event.job_id == job.id, Event.type == "metrics")
    told = [(data["step"], at) for at, data in session.execute(query.order_by(Event.number).limit(_EVENTS)) if data]
    told = [(step, at) for step, at in told if step > 0]
    if len(told) < _TOLD or told[-1][1] - told[0][1] < _SHORTEST_S:
        return None
    (first, begin), (last, end) = told[0], told[-1]
    return (end - begin) / (last - first) * job.transfer.method.hyperparameters.max_steps if last > first else None


def _seconds(session: Session, job: Job) -> dict[str, float]:
    """Seconds that a job was in each phase, whose events say when it entered them."""
    query = select(Event.created_at, Event.data).where(Event.job_id == job.id, Event.type == "phase")
    entered = [
        (at, (data or {}).get("phase")) for at, data in session.execute(query.order_by(Event.number).limit(_EVENTS))
    ]
    found: dict[str, float] = defaultdict(float)
    for (begin, phase), (end, _) in pairwise([*entered, (job.finished_at, None)]):
        if phase is not None and end is not None:
            found[phase] += max(0.0, end - begin)
    return dict(found)
