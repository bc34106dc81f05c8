from __future__ import annotations

import re
from typing import Literal

from api.errors import InvalidInputError
from api.logs.models import LogChunk
from api.schemas import Listed


class LogOut(Listed):
    """A piece of what a trainer printed."""

    object: Literal["fine_tuning.job.log"] = "fine_tuning.job.log"
    created_at: int
    attempt: int
    """Number of the attempt, as in the job's `attempts`."""
    text: str


def log_out(chunk: LogChunk) -> LogOut:
    return LogOut(id=chunk.id, created_at=int(chunk.created_at), attempt=chunk.attempt, text=chunk.text)


def place_of(job_id: str, log_id: str) -> tuple[int, int]:
    """Attempt and number in a piece's id.

    Raises:
        InvalidInputError: it is no id of a piece of this job's log.
    """
    matched = re.fullmatch(rf"log_{re.escape(job_id.removeprefix('ftjob_'))}_([0-9]{{6,9}})_([0-9]{{6,9}})", log_id)
    if matched is None:
        message = f"{log_id!r} is no id of a piece of the log of {job_id}."
        raise InvalidInputError("invalid_cursor", message, param="after", pointer=None)
    return int(matched[1]), int(matched[2])
