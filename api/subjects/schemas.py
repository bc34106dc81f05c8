from __future__ import annotations

from typing import TypeVar

from api.schemas import Out
from api.subjects.models import ResultFile

ReportT = TypeVar("ReportT", bound="Report")


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
    """Where its bytes are, with your key."""


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
