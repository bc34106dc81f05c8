"""Files of reports that a resource holds: one lookup for every kind of resource."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from api.errors import NotFoundError, NotYetError


class _Named(Protocol):
    filename: str


_File = TypeVar("_File", bound="_Named")


def find_report(files: Iterable[_File], filename: str, *, owner: str, status: str, is_final: bool) -> _File:
    """The file of that name; `owner` names the resource in the messages.

    Raises:
        NotYetError: there is no report yet.
        NotFoundError: it has no such file; says which there are.
    """
    named = {file.filename: file for file in files}
    if filename in named:
        return named[filename]
    if not is_final:
        raise NotYetError("report_not_ready", f"{owner} is {status} and has no report yet.")
    there_are = f"files: {', '.join(named)}" if named else "it has none"
    raise NotFoundError("report_not_found", f"There is no {filename!r} in the report of {owner} ({there_are}).")
