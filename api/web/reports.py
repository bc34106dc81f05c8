"""Reports as pages read them: from the store, of a subject that the session's tenant has been shown already."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError
from sqlalchemy.orm import Session

from api.deps import Services
from api.storage import StoreError
from api.subjects import files
from difftune_core.config.reports.record import Record

RecordT = TypeVar("RecordT", bound=Record)
_KIND = "report_json"
_MOST_BYTES = 16 << 20


async def report_of(used: Services, tenant_id: str, subject_id: str, shape: type[RecordT]) -> RecordT | None:
    """The newest report of the subject; None where there is none, or none that this version can read."""

    def look(session: Session) -> str | None:
        found = [file for file in files.of(session, [subject_id])[subject_id] if file.kind == _KIND]
        newest = max(found, key=lambda file: file.step, default=None)
        if newest is None or newest.tenant_id != tenant_id or newest.bytes > _MOST_BYTES:
            return None
        return newest.key

    def read(key: str) -> RecordT | None:
        try:
            return shape.model_validate_json(b"".join(used.store.read(key)))
        except (FileNotFoundError, StoreError, ValidationError):
            return None

    key = await used.units.read(tenant_id, look)
    return None if key is None else await used.units.other(tenant_id, lambda: read(key))
