"""What a worker does to a retention set, each in the caller's transaction, which holds the artifact's work item."""

from __future__ import annotations

import time

from sqlalchemy.orm import Session

from api.jobs.service import retention_set_settled
from api.retention_sets.models import RetentionArtifact
from api.retention_sets.states import RetentionSetStatus
from api.subjects.files import StoredFile


def started(artifact: RetentionArtifact) -> None:
    """A worker has claimed it."""
    artifact.set_status(RetentionSetStatus.RUNNING)


def progressed(artifact: RetentionArtifact, *, done: int, total: int) -> None:
    """`done` of `total` images are there."""
    artifact.done, artifact.total = done, total


def requeued(artifact: RetentionArtifact) -> None:
    """The attempt is over and another follows."""
    artifact.set_status(RetentionSetStatus.QUEUED)


def succeeded(session: Session, artifact: RetentionArtifact, stored: StoredFile) -> None:
    """The images are in the store; jobs that waited for them are told."""
    artifact.key, artifact.bytes, artifact.sha256 = stored.key, stored.bytes, stored.sha256
    artifact.done = artifact.total
    _settle(session, artifact, RetentionSetStatus.SUCCEEDED)


def failed(session: Session, artifact: RetentionArtifact, *, code: str, message: str) -> None:
    """It could not be made; jobs that waited for it fail by its name. Whoever asks again has it tried again."""
    artifact.error_code, artifact.error_message = code[:64], message[:2000]
    artifact.live_key = None
    _settle(session, artifact, RetentionSetStatus.FAILED)


def _settle(session: Session, artifact: RetentionArtifact, status: RetentionSetStatus) -> None:
    artifact.set_status(status)
    artifact.settled_at = time.time()
    session.flush()
    retention_set_settled(session, artifact)
