"""Retention sets: images that Diff-Tuning replays, made once for all tenants who ask for the same."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.errors import ConflictError, InvalidInputError, NotFoundError, NotYetError
from api.ids import new_id
from api.retention_sets import repository
from api.retention_sets.models import RetentionArtifact, RetentionSet
from api.subjects.kinds import refuse_used
from api.subjects.repository import get, lock, open_work
from api.subjects.states import FINAL, Status
from api.work import service as work
from api.work.models import WorkItem
from api.work.states import Slot, WorkKind
from difftune_core.config.card import BaseModelCard
from difftune_core.config.retention import RetentionSetConfig, retention_digest, uploaded_digest


@dataclass(frozen=True)
class Wanted:
    """What an artifact is to hold."""

    digest: str
    shared_by: str
    """The tenant whose sets may share the images, empty for all tenants; uploaded images are one tenant's."""
    total: int
    settings: dict[str, Any] | None = None
    dataset: Dataset | None = None


def sampled(card: BaseModelCard, settings: RetentionSetConfig) -> Wanted:
    """Images to sample from the base model.

    Raises:
        InvalidInputError: the base model has fewer classes.
    """
    check_classes(card, settings)
    digest = retention_digest(card.digest, settings)
    return Wanted(digest, "", settings.num_images, settings=settings.model_dump(mode="json"))


def uploaded(session: Session, tenant_id: str, card: BaseModelCard, dataset_id: str) -> Wanted:
    """Images of a data set of the tenant's.

    Raises:
        InvalidInputError: there is no such data set.
        ConflictError: it is not ready.
    """
    try:
        dataset = get(session, Dataset, tenant_id, dataset_id, lock=True)
    except NotFoundError as error:
        raise InvalidInputError(error.code, error.message, param="training_file") from None
    if dataset.status != DatasetStatus.READY or dataset.identity is None:
        message = f"The data set {dataset_id} is {dataset.status}; a retention set is made of one that is ready."
        where: dict[str, Any] = {"param": "training_file", "pointer": "#/training_file"}
        if dataset.status == DatasetStatus.VALIDATING:
            raise NotYetError("dataset_validating", message, retry_after_s=5, **where)
        raise ConflictError(f"dataset_{dataset.status}", message, **where)
    digest = uploaded_digest(card.digest, dataset.identity)
    return Wanted(digest, tenant_id, dataset.num_items or 0, dataset=dataset)


def create(
    session: Session, tenant_id: str, card: BaseModelCard, wanted: Wanted, metadata: dict[str, str] | None = None
) -> RetentionSet:
    """The tenant's retention set of that content: the one it has, or a new one; made only if nobody has had it made."""
    artifact = _artifact(session, tenant_id, card, wanted)
    own = repository.named_by(session, artifact.id, tenant_id)
    if own:
        return own[0]
    row = RetentionSet(
        id=new_id("rset"),
        tenant_id=tenant_id,
        artifact_id=artifact.id,
        training_file=wanted.dataset.id if wanted.dataset else None,
        metadata_=metadata,
        created_at=time.time(),
    )
    session.add(row)
    session.flush()
    return row


def is_seen_as(status: str) -> ColumnElement[bool]:
    """Return whether a set has this status for its tenant, who may have given it up while others wait for it."""
    made = RetentionSet.artifact.has(status=status)
    if status == Status.CANCELLED:
        return RetentionSet.cancelled_at.is_not(None) | made
    return RetentionSet.cancelled_at.is_(None) & made


def request_cancel(session: Session, tenant_id: str, set_id: str) -> RetentionSet:
    """Give up a set that is not made yet. It is made on if another tenant wants the same.

    Raises:
        NotFoundError: there is none.
        ConflictError: it is final, or a job waits for it.
    """
    row, item = _locked(session, tenant_id, set_id)
    if row.status in FINAL:
        message = f"The retention set {set_id} is {row.status} and cannot be cancelled."
        raise ConflictError("retention_set_not_cancellable", message)
    _check_unused(session, row)
    row.cancelled_at = time.time()
    _release(session, row.artifact, item)
    return row


def delete(session: Session, tenant_id: str, set_id: str) -> list[str]:
    """Delete a set that no live job uses; returns the keys to delete after the commit: none while others have the set.

    Raises:
        NotFoundError: there is none.
        ConflictError: a job that is not final uses it.
    """
    row, item = _locked(session, tenant_id, set_id)
    _check_unused(session, row)
    row.deleted_at = time.time()
    return _release(session, row.artifact, item)


def check_classes(card: BaseModelCard, settings: RetentionSetConfig, *, param: str = "class_distribution") -> None:
    """Refuse classes that the base model does not have.

    Raises:
        InvalidInputError: `label_out_of_range`, naming `param`.
    """
    if settings.class_distribution != "uniform":
        highest = max(share.label for share in settings.class_distribution)
        if highest >= card.num_classes:
            message = f"The base model {card.id} has classes 0 to {card.num_classes - 1}, not {highest}."
            raise InvalidInputError("label_out_of_range", message, param=param)


def _artifact(session: Session, tenant_id: str, card: BaseModelCard, wanted: Wanted) -> RetentionArtifact:
    """Lock the artifact, so that its last tenant does not give it up meanwhile."""
    live_key = f"{wanted.shared_by}:{wanted.digest}"
    found = repository.lock_live(session, live_key)
    if found is not None:
        return found
    made = RetentionArtifact(
        id=new_id("rart"),
        live_key=live_key,
        digest=wanted.digest,
        model=card.id,
        base_digest=card.digest,
        settings=wanted.settings,
        dataset_id=wanted.dataset.id if wanted.dataset else None,
        total=wanted.total,
        created_at=time.time(),
    )
    try:
        with session.begin_nested():
            session.add(made)
    except IntegrityError:  # somebody asked for the same at this moment
        found = repository.lock_live(session, live_key)
        if found is None:
            raise
        return found
    slot = Slot.GPU if wanted.dataset is None else Slot.CPU
    work.enqueue(session, WorkKind.MAKE_RETENTION_SET, made.id, tenant_id=tenant_id, slot=slot)
    return made


def _locked(session: Session, tenant_id: str, set_id: str) -> tuple[RetentionSet, WorkItem | None]:
    row = get(session, RetentionSet, tenant_id, set_id)
    item = open_work(session, row.artifact_id)
    lock(session, RetentionArtifact, row.artifact_id)
    return get(session, RetentionSet, tenant_id, set_id), item


def _check_unused(session: Session, row: RetentionSet) -> None:
    refuse_used(session, row.tenant_id, [row.id], "retention_set_in_use", f"The retention set {row.id} is")


def _release(session: Session, artifact: RetentionArtifact, item: WorkItem | None) -> list[str]:
    """Keep the artifact while any row wants it; else end its making, and forget what is made."""
    session.flush()
    if repository.named_by(session, artifact.id):
        return []
    if artifact.status not in FINAL:
        artifact.end(Status.CANCELLED)
    work.request_stop(item)
    key, artifact.key, artifact.live_key = artifact.key, None, None
    return [key] if key else []
