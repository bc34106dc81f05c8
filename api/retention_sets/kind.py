from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.retention_sets.models import RetentionArtifact, RetentionSet
from api.subjects.files import Result
from api.subjects.simple import SimpleKind
from api.subjects.states import FINAL
from api.work.states import WorkKind


class _RetentionSets(SimpleKind[RetentionArtifact]):
    """The making of retention sets. Its subjects are artifacts, which the sets of several tenants may name."""

    name = WorkKind.MAKE_RETENTION_SET
    folder = "retention_sets"
    noun = "retention set"
    child = "making of the retention set"
    activity = "worker.kinds.retention:RetentionSetMaking"
    uses = frozenset({"ds"})
    row = RetentionArtifact

    def named(self, session: Session, subject_id: str | None = None) -> dict[str, str | None]:
        """Name the images."""
        query = select(RetentionArtifact.key, RetentionArtifact.sha256).where(RetentionArtifact.key.is_not(None))
        if subject_id is not None:
            query = query.where(RetentionArtifact.id == subject_id)
        return {row.key: row.sha256 for row in session.execute(query)}

    def users(self, session: Session, tenant_id: str, ids: Collection[str]) -> list[str]:
        """List the sets that are being made from one of these data sets."""
        query = select(RetentionSet.id).join(RetentionArtifact, RetentionArtifact.id == RetentionSet.artifact_id)
        query = query.where(RetentionArtifact.dataset_id.in_(ids), RetentionArtifact.status.not_in(FINAL))
        query = query.where(RetentionSet.tenant_id == tenant_id, RetentionSet.deleted_at.is_(None))
        return list(session.scalars(query.order_by(RetentionSet.id)))

    def got_to(self, session: Session, subject_id: str) -> int:
        """Count the images that are there: an attempt after which there are more has got on."""
        return self.lock(session, subject_id).done

    def keep(self, session: Session, subject: RetentionArtifact, stored: Sequence[Result]) -> None:
        """Name the one file in the artifact's own row: it is no result of one tenant's."""
        del session
        (images,) = stored
        subject.key, subject.bytes, subject.sha256 = images.key, images.bytes, images.sha256

    def fail(
        self,
        session: Session,
        subject: RetentionArtifact,
        *,
        code: str,
        message: str,
        param: str | None = None,
    ) -> None:
        """End the set so that whoever asks again has it tried again."""
        subject.live_key = None
        super().fail(session, subject, code=code, message=message, param=param)


RETENTION_SETS = _RetentionSets()
