from __future__ import annotations

from typing import Any, Literal

from api.base_models.service import METHODS
from api.schemas import Listed
from difftune_core.config.card import BaseModelCard, CompanionCard

Kind = Literal["base_model", "controlnet", "annotator", "clip"]


class Model(Listed):
    """A base model, a ControlNet, an annotator or a CLIP model, in OpenAI's shape, with its card."""

    object: Literal["model"] = "model"
    created: int
    owned_by: str
    kind: Kind
    """What it is for: to be tuned, to go on from (`control.init_from`), to draw controls (`control.annotator`), or to
    score captions (`evaluation.clip_model`)."""
    family: str
    """The family of a base model; of other models their kind."""
    description: str
    licence: str
    image_size: int | None
    """Pixels, square; null for what takes any size."""
    conditions: list[str]
    """What an annotator draws; what a ControlNet follows, where that is known."""
    num_classes: int
    num_parameters: int
    digest: str
    """sha256 over the model's files."""
    methods: list[str]
    """What it can be tuned with; each has a schema under `/v1/models/{id}/methods/{method}/schema`."""
    defaults: dict[str, Any]
    """Defaults of a job's fields for this model."""
    figures: dict[str, Any]
    """What was measured of the model itself."""


def model_out(card: BaseModelCard | CompanionCard) -> Model:
    common = {
        "id": card.id,
        "created": card.created_at,
        "owned_by": card.source or "operator",
        "description": card.description,
        "licence": card.licence,
        "num_parameters": card.num_parameters,
        "digest": card.digest,
    }
    if isinstance(card, BaseModelCard):
        of_kind = {
            "kind": "base_model",
            "conditions": [],
            "methods": list(METHODS),
            "defaults": card.defaults.model_dump(),
            **{name: getattr(card, name) for name in ("family", "image_size", "num_classes", "figures")},
        }
    else:
        of_kind = {
            "kind": card.kind,
            "conditions": list(card.conditions),
            "methods": [],
            "defaults": {},
            "family": card.kind,
            "image_size": None,
            "num_classes": 0,
            "figures": {},
        }
    return Model.model_validate(common | of_kind)
