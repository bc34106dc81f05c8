"""Ids of models: how they look, and where configs name them. Pydantic only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

MODEL_ID = r"[a-z0-9][a-z0-9._-]{0,63}"
EXTRACTOR_ID = r"[a-z0-9][a-z0-9._-]{0,47}"
"""Pattern of a feature extractor's id, shorter because figures are named after it."""
ModelId = Annotated[str, Field(pattern=rf"^{MODEL_ID}$")]
ExtractorId = Annotated[str, Field(pattern=rf"^{EXTRACTOR_ID}$")]
CompanionKind = Literal["controlnet", "annotator", "clip"]
ModelKind = Literal["base_model", "extractor"] | CompanionKind

NAMED_IN: dict[str, ModelKind] = {
    "model": "base_model",
    "evaluation.feature_extractors": "extractor",
    "evaluation.clip_model": "clip",
    "control.init_from": "controlnet",
    "control.annotator": "annotator",
}
"""Field -> kind of the model, or models, that it names, in every config that has such a field."""


class NamedModel(NamedTuple):
    """A model that a config names."""

    id: str
    kind: ModelKind
    field: str
    """Field that names the model, with dots."""


def named_models(config: Mapping[str, Any]) -> Iterator[NamedModel]:
    """The models that a config names, of whatever resource it is.

    Args:
        config: its JSON object.
    """
    for field, kind in NAMED_IN.items():
        value: Any = config
        for name in field.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            yield NamedModel(value, kind, field)
        elif value is not None:
            for number, id_ in enumerate(value):
                yield NamedModel(id_, kind, f"{field}.{number}")
