from __future__ import annotations

import math
import re
from typing import Any, Literal

from api.errors import InvalidInputError
from api.jobs.models import Event
from api.schemas import Listed


class EventOut(Listed):
    """Something that happened to a job, in OpenAI's shape. Types may be added."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: str
    """`info`, `warn` or `error`."""
    message: str
    type: str
    """`message`, `metrics`, `phase`, `progress`, `status`, `checkpoint`, `best` or `sample`."""
    data: dict[str, Any] | None


def event_out(event: Event) -> EventOut:
    return EventOut(
        id=event.id,
        created_at=int(event.created_at),
        level=event.level,
        message=event.message,
        type=event.type,
        data=event.data,
    )


def number_of(job_id: str, event_id: str, *, param: str, newest: float = math.inf) -> int:
    """The number in an event's id; `newest` is that of the job's last one, where it is known.

    Raises:
        InvalidInputError: it is no id of an event of this job.
    """
    matched = re.fullmatch(rf"evt_{re.escape(job_id.removeprefix('ftjob_'))}_([0-9]{{8,10}})", event_id)
    if matched is None or int(matched[1]) > newest:
        message = f"{event_id!r} is no id of an event of {job_id}."
        raise InvalidInputError("invalid_cursor", message, param=param, pointer=None)
    return int(matched[1])
