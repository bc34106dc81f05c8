"""The retention set that a job names: what may be used, and whether it is there."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.errors import ConflictError, InvalidInputError
from api.retention_sets.models import RetentionArtifact, RetentionSet
from api.retention_sets.service import check_classes
from api.subjects.repository import find, lock
from api.subjects.states import Status
from difftune_core.config.card import BaseModelCard
from difftune_core.config.retention import RetentionSetConfig, retention_digest
from difftune_core.config.transfer import TransferConfig

_LOST = {Status.FAILED, Status.CANCELLED}


def chosen(session: Session, tenant_id: str, config: TransferConfig, base_digest: str | None) -> RetentionSet | None:
    """The retention set that a resolved config names by its id, None where it names none.

    Its artifact is locked, so that a set that is settled meanwhile sees the new job, or the new job sees its end.

    Raises:
        InvalidInputError: there is no such set, or it is of another base model.
        ConflictError: it could not be made.
    """
    set_id, field = config.method.retention_set, field_of(config)
    if not isinstance(set_id, str):
        return None
    found = find(session, RetentionSet, tenant_id, set_id)
    if found is not None:
        lock(session, RetentionArtifact, found.artifact_id)
        found = find(session, RetentionSet, tenant_id, set_id)
    if found is None:
        raise InvalidInputError("retention_set_not_found", f"There is no retention set {set_id!r}.", param=field)
    made = found.artifact
    if made.base_digest != base_digest:
        message = (
            f"The retention set {set_id} is of the base model {made.model} with digest {made.base_digest}; "
            f"the base model {config.model} has digest {base_digest}."
        )
        digests = {"retention_set_base_digest": made.base_digest, "base_digest": base_digest}
        raise InvalidInputError("retention_set_mismatch", message, param=field, **digests)
    if found.status in _LOST:
        reason = f": {made.error_message}" if made.error_message else ""
        message = f"The retention set {set_id} is {found.status}{reason}."
        pointer = "#/" + field.replace(".", "/")
        raise ConflictError(f"retention_set_{found.status}", message, param=field, pointer=pointer)
    return found


def digest_of(config: TransferConfig, base_digest: str | None, named: RetentionSet | None) -> str | None:
    """Digest of the retention set that a job will use; None where its method uses none."""
    settings = config.method.retention_set
    if named is not None:
        return named.artifact.digest
    if isinstance(settings, RetentionSetConfig) and base_digest is not None:
        return retention_digest(base_digest, settings)
    return None


def is_made(session: Session, set_id: str | None) -> bool:
    """Return whether the images that a job waits for are there; it may wait for none."""
    query = select(RetentionArtifact.status).join(RetentionSet, RetentionSet.artifact_id == RetentionArtifact.id)
    return set_id is None or session.scalar(query.where(RetentionSet.id == set_id)) == Status.SUCCEEDED


def check_settings(card: BaseModelCard, config: TransferConfig) -> None:
    """Check the classes of the retention set that a resolved config states, as `check_classes` does."""
    settings = config.method.retention_set
    if isinstance(settings, RetentionSetConfig):
        check_classes(card, settings, param=f"{field_of(config)}.class_distribution")


def field_of(config: TransferConfig) -> str:
    """Return the config's field that says which retention set is used, with dots."""
    return f"{config.method.where}.retention_set"
