"""The base of what reports are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PrivateAttr,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

Kind = TypeVar("Kind", bound="Record")


class Record(BaseModel):
    """A part of a report: immutable, with the keys that it was given in the order in which it was given them.

    Keys that this version does not know are kept: a report is read by earlier and later versions than that which wrote
    it. What was left out stays left out.
    """

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True, protected_namespaces=())
    _given: tuple[str, ...] = PrivateAttr(())
    _nulls: frozenset[str] = PrivateAttr(frozenset())

    @model_validator(mode="wrap")
    @classmethod
    def _in_order(cls, value: Any, handler: Callable[[Any], Any]) -> Any:
        found = handler(value)
        if isinstance(value, dict):
            found._given = tuple(value)  # noqa: SLF001  # its own
            found._nulls = frozenset(name for name in value if value[name] is None)  # noqa: SLF001  # its own
        return found

    @model_serializer(mode="wrap")
    def _as_given(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        dumped = handler(self)
        return {name: None if name in self._nulls else dumped[name] for name in self._given}

    def given(self) -> dict[str, Any]:
        """Return what the record was given, by key; parts of it are records still."""
        return {name: None if name in self._nulls else self.part(name) for name in self._given}

    def part(self, name: str) -> Any:
        """Return what stands under a key, None where nothing does."""
        further = self.model_extra or {}
        return further[name] if name in further else getattr(self, name) if name in type(self).model_fields else None


def changed(record: Kind, **values: Any) -> Kind:
    """Return a copy with these values, new ones at the end."""
    return type(record).model_validate({**record.given(), **values})


def _or_empty(value: Any) -> Any:
    return {} if value is None else value


OrEmpty = BeforeValidator(_or_empty)
"""A part that may be null, in which whoever reads it then finds nothing."""
_NULLABLE: dict[str, Any] = {"type": ["object", "null"], "additionalProperties": True}
Described = Annotated[dict[str, Any], OrEmpty, WithJsonSchema(_NULLABLE)]
"""A part that has a schema elsewhere or none: a job's config, a model's card."""
