"""Fields of configs that take a name out of a table, which is read when a config is judged or its schema made.

So what another distribution brings counts too. A stored config (`STORED`) is not judged anew: one that names what is no
longer installed can still be read and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticKnownError, core_schema

STORED = {"is_stored": True}
"""The validation context of a config that was judged when it was submitted."""


def unless_stored(check: Callable[[Any], Any], schema: core_schema.CoreSchema) -> core_schema.CoreSchema:
    """`schema`, whose values `check` looks at first where the config is not a stored one."""
    return core_schema.with_info_before_validator_function(
        lambda value, info: value if info.context == STORED else check(value), schema
    )


@dataclass(frozen=True)
class OneOf:
    """Marks a string as one of `names()`, as a `Literal` would."""

    names: Callable[[], Sequence[str]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Refuse what is not among the names."""
        return unless_stored(self._known, handler(source))

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """List the names."""
        return {"type": "string", "enum": list(self.names())}

    def _known(self, name: Any) -> str:
        known = self.names()
        if name not in known:
            expected = " or ".join([", ".join(map(repr, known[:-1])), repr(known[-1])])
            raise PydanticKnownError("literal_error", {"expected": expected})
        return str(name)
