from __future__ import annotations

from typing import Any, Literal

from api.models.service import METHODS
from api.schemas import Listed
from difftune_core.card import BaseModelCard


class Model(Listed):
    """A base model, in OpenAI's shape, with its card."""

    object: Literal["model"] = "model"
    created: int
    owned_by: str
    family: str
    description: str
    licence: str
    image_size: int
    """Pixels, square."""
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


def model_out(card: BaseModelCard) -> Model:
    return Model(
        id=card.id,
        created=card.created_at,
        owned_by=card.source or "operator",
        family=card.family,
        description=card.description,
        licence=card.licence,
        image_size=card.image_size,
        num_classes=card.num_classes,
        num_parameters=card.num_parameters,
        digest=card.digest,
        methods=list(METHODS),
        defaults=card.defaults.model_dump(),
        figures=card.figures,
    )
