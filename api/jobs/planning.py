"""A job's plan, as far as the service knows what it is made for; and whether a known worker could do the job."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.datasets.models import Dataset
from api.errors import InvalidInputError
from api.jobs import rates
from api.jobs.models import Job
from api.retention_sets.models import RetentionSet
from api.subjects.repository import find
from api.subjects.states import Status
from api.work.repository import devices
from difftune_core.config.card import BaseModelCard
from difftune_core.config.families import rules_of
from difftune_core.config.plan import fitting
from difftune_core.config.plan.circumstances import Circumstances, Device, RetentionState
from difftune_core.config.plan.plan import Plan, plan_of
from difftune_core.config.transfer import TransferConfig

_EXTRACTOR = 24_000_000  # parameters of Inception; the bundled network has so few that they do not count
_GIB = 1 << 30


def fitted(
    session: Session, resolved: TransferConfig, card: BaseModelCard, *, num_images: int | None
) -> TransferConfig:
    """The config with what it leaves to `auto` changed so that it fits the largest worker that is known.

    Raises:
        InvalidInputError: `does_not_fit`, no known worker has the memory; names settings with which it would fit.
    """
    known = Circumstances(device=_device(session), num_images=num_images, extractor_parameters=_extractor(card))
    job = fitting.fitted(_job(resolved, card, known))
    if job.fits(tolerance=fitting.TOLERANCE) is not False:
        return job.config
    would = fitting.settings_that_fit(job, _adapters(card))
    message = f"{_told(job)} {_hint(would)}"
    raise InvalidInputError("does_not_fit", message, param="resources", would_fit=would, needed_bytes=job.need)


def _told(job: fitting.Job) -> str:
    device = job.known.device
    assert device is not None, "its memory is known"
    assert device.memory_bytes is not None, "likewise"
    has = device.memory_bytes / _GIB
    return f"The job needs {job.need / _GIB:.1f} GiB, and the largest known worker ({device.name}) has {has:.1f} GiB."


def _hint(would: list[dict[str, Any]]) -> str:
    if not would:
        return "No setting of it would make it fit: take a smaller base model."
    each = [" and ".join(f"{field} = {_said(value)}" for field, value in one.items()) for one in would]
    return f"It would fit with {'; or with '.join(each)}."


def plan(session: Session, row: Job, given: TransferConfig, card: BaseModelCard, num_images: int | None) -> Plan:
    """The plan of a job whose row has been made and is not kept."""
    device, training = _device(session), session.get(Dataset, row.training_file)
    names = None if training is None else training.class_names
    config = row.transfer
    past = None if device is None else rates.known(session, row.tenant_id, config, card.digest, device.name)
    known = Circumstances(
        device=device,
        num_images=num_images,
        num_classes=len(names) if names else None,
        extractor_parameters=_extractor(card),
        retention=_retention(session, row),
        rates=past,
    )
    return plan_of(_job(config, card, known), given, card, row.retention_digest)


def _job(config: TransferConfig, card: BaseModelCard, known: Circumstances) -> fitting.Job:
    rules = rules_of(card)
    return fitting.Job(config, lambda tried: rules.network_size(tried, card, known.num_classes), card.image_size, known)


def _device(session: Session) -> Device | None:
    return fitting.best_device([Device(name, nbytes) for name, nbytes in devices(session)])


def _extractor(card: BaseModelCard) -> int | None:
    return None if card.feature_extractor.startswith("tiny") else _EXTRACTOR


def _adapters(card: BaseModelCard) -> dict[str, Any]:
    """Adapters of the base model's family by name, with their defaults."""
    found = {kind.model_fields["type"].annotation.__args__[0]: kind for kind in rules_of(card).adapters}
    return {name: kind(type=name) for name, kind in found.items() if name != "full"}


def _said(value: Any) -> str:
    return value["type"] if isinstance(value, dict) else str(value)


def _retention(session: Session, row: Job) -> RetentionState:
    """Return whether the images to retain with are there."""
    if row.retention_digest is None:
        return "not_used"
    if row.retention_set is not None:
        named = find(session, RetentionSet, row.tenant_id, row.retention_set)
        is_made = named is not None and named.status == Status.SUCCEEDED
        return "made" if is_made else "being_made"
    used = select(Job.id).where(Job.tenant_id == row.tenant_id, Job.retention_digest == row.retention_digest)
    return "cached" if session.scalar(used.where(Job.step > 0, Job.id != row.id).limit(1)) else "to_be_made"
