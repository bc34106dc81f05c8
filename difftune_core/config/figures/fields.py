"""Fields of configs that name a metric or a figure: what they take and how the schema tells it come from the table.

Both are read when a config is judged or its schema made, so a metric that was registered after the import counts too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticKnownError, core_schema

from difftune_core.config.figures.registry import all_figures, named_metrics
from difftune_core.config.model_ids import EXTRACTOR_ID
from difftune_core.config.named import OneOf, unless_stored


def best_metrics() -> list[str]:
    """Return the keys of the figures by which the best checkpoint can be chosen."""
    return [figure.key for figure in all_figures() if figure.is_along]


@dataclass(frozen=True)
class _FigureKey:
    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return unless_stored(_known_key, handler(source))

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "pattern": _pattern()}


MetricName = Annotated[str, OneOf(lambda: list(named_metrics()))]
"""The name of a metric that can be asked for."""
FigureKey = Annotated[str, _FigureKey()]
"""The key of a figure by which the best checkpoint can be chosen; `fd_<id>` of a further feature extractor."""


def _known_key(key: Any) -> Any:
    if isinstance(key, str) and not re.fullmatch(_pattern(), key):
        raise PydanticKnownError("string_pattern_mismatch", {"pattern": _pattern()})
    return key


def _pattern() -> str:
    return f"^({'|'.join(best_metrics())}|fd_{EXTRACTOR_ID})$"
