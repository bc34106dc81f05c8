from __future__ import annotations

from typing import Self, TypeVar

from api.schemas import Out
from api.subjects.models import ResultFile, Subject

ReportT = TypeVar("ReportT", bound="Report")


class Failure(Out):
    """Why the work on a subject failed."""

    code: str
    message: str
    param: str | None

    @classmethod
    def of(cls, subject: Subject) -> Self | None:
        """The failure of a subject; None where it has not failed."""
        if subject.error_code is None:
            return None
        return cls(code=subject.error_code, message=subject.error_message or "", param=subject.error_param)


class Progress(Out):
    """Images that are there, of all."""

    done: int
    total: int


class Report(Out):
    """A file of a report. Each kind of subject has a class of its own: the OpenAPI document names it."""

    kind: str
    """`report_json`, `report_html` or `samples`."""
    filename: str
    content_type: str
    bytes: int
    sha256: str
    created_at: int
    url: str
    """Where the file's bytes are, with your key."""


def reports_of(shape: type[ReportT], files: list[ResultFile], path: str) -> list[ReportT]:
    """The files of a report as they are answered; `path` is the subject's own."""
    return [
        shape(
            kind=file.kind,
            filename=file.filename,
            content_type=file.content_type,
            bytes=file.bytes,
            sha256=file.sha256,
            created_at=int(file.created_at),
            url=f"{path}/reports/{file.filename}",
        )
        for file in files
    ]
