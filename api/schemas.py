"""Shapes that all domains share. Times are Unix seconds; clients must ignore fields that they do not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class Out(BaseModel):
    """An answer of the API."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class In(BaseModel):
    """A request's body: unknown fields are refused, and values of another type are not taken for what they resemble."""

    model_config = ConfigDict(
        use_attribute_docstrings=True, extra="forbid", frozen=True, allow_inf_nan=False, strict=True
    )


class Listed(Out):
    """Whatever can be in a list: its id is the next page's `after`."""

    id: str


ItemT = TypeVar("ItemT", bound=Listed)
RowT = TypeVar("RowT")

_DISORDER = "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # turn the line's direction or end it: names that deceive
_NAME = rf"^[^\x00-\x1f\x7f-\x9f{_DISORDER}]+$"
Filename = Annotated[
    str, StringConstraints(min_length=1, max_length=255, pattern=rf"^[^\x00-\x1f\x7f-\x9f{_DISORDER}]+$")
]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r'^[^"\\\x00-\x1f]+$')]
MetadataValue = Annotated[str, StringConstraints(max_length=512, pattern=r"^[^\x00]*$")]


class Page(Out, Generic[ItemT]):
    """A page of a list, as OpenAI's clients page through it."""

    object: Literal["list"] = "list"
    data: list[ItemT]
    has_more: bool
    """Whether another page follows; ask for it with `after` = `last_id`."""
    first_id: str | None
    last_id: str | None


def page_of(rows: Sequence[RowT], limit: int, shown: Callable[[RowT], ItemT]) -> Page[ItemT]:
    """The page of rows that were asked for with one more than `limit`."""
    data = [shown(row) for row in rows[:limit]]
    first_id, last_id = (data[0].id, data[-1].id) if data else (None, None)
    return Page(data=data, has_more=len(rows) > limit, first_id=first_id, last_id=last_id)


class Deleted(Out):
    """The answer to a deletion."""

    id: str
    object: str
    deleted: Literal[True] = True


class Fault(Out):
    """One fault of a request."""

    pointer: str | None = None
    """JSON pointer to the field of the body, as a URI fragment."""
    parameter: str | None = None
    """Name of the parameter at fault, where it is not a field of the body."""
    code: str
    detail: str


class OpenAIError(Out):
    """What OpenAI's clients read."""

    message: str
    type: str
    param: str | None
    code: str


class Problem(Out):
    """Every error: RFC 9457 problem details that also carry OpenAI's `error`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    """Name of the error for programs: it is stable."""
    request_id: str | None
    errors: list[Fault] = []
    error: OpenAIError


def seconds(moment: float | None) -> int | None:
    """Unix seconds as an integer, as OpenAI's clients expect them."""
    return None if moment is None else int(moment)


def finite(value: float | None) -> float | None:
    """JSON has no infinities; SQLite keeps no NaN."""
    return value if value is not None and abs(value) < float("inf") else None


Resolved = Annotated[dict[str, Any], Field(description="Complete: every default is filled in.")]
