"""The card of a base model or a feature extractor: what it is, how it was made, its defaults. Pydantic only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from difftune_core.config.sampling import ProcessName
from difftune_core.hooks import TaskError

CARD_FILE = "card.json"


class CardPart(BaseModel):
    """Immutable; unknown fields are kept, so that older code reads newer cards."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)


class Defaults(CardPart):
    """Defaults of the transfer config for this model, by part; field names as in `difftune_core.config.transfer`."""

    training: dict[str, Any] = {}
    retention_set: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}
    control: dict[str, Any] = {}
    """Of a Stable Diffusion: `default_prompt`, `prompt_dropout` and the like."""

    @field_validator("*")
    @classmethod
    def _check_finite(cls, values: Any) -> Any:
        """JSON as we write it has no NaN, but Python's reads it."""
        json.dumps(values, allow_nan=False)
        return values


class BaseModelCard(CardPart):
    """`card.json` of a base model's folder."""

    schema_version: Literal[1] = 1
    id: str
    """Folder name and public id."""
    family: Literal["dit", "stable-diffusion"]
    process: ProcessName = "ddpm"
    """How noise entered in its training: which samplers and recipes fit."""
    description: str = ""
    licence: str = "unknown"
    source: str = ""
    """Where the weights come from."""
    created_at: int = 0
    """Unix seconds."""
    image_size: Annotated[int, Field(ge=1, le=8192)]
    """Pixels, square."""
    num_classes: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Rows of the label table without the null row; 0 where there is none."""
    num_parameters: int = 0
    feature_extractor: str
    """Id of the feature extractor that judges this model's images."""
    annotators: dict[str, str] = {}
    """Condition -> id of the network that draws it by default; of a Stable Diffusion."""
    digest: Annotated[str, Field(max_length=64)]
    """sha256 over the model's files (name and content, sorted): identifies the weights."""
    defaults: Defaults = Defaults()
    unet: dict[str, Any] = {}
    """Of a Stable Diffusion: what a ControlNet must have in common with it."""
    figures: dict[str, Any] = {}
    """What was measured of the model itself: its FID on its own source, the autoencoder's floor."""


def read_card(folder: Path) -> BaseModelCard:
    """The card in `folder`, whose name is the model's id whatever the card calls it: a copied folder is a model.

    Raises:
        OSError: there is no `card.json`, or it cannot be read.
        pydantic.ValidationError: it is not a base model's card.
    """
    card = BaseModelCard.model_validate_json((folder / CARD_FILE).read_bytes())
    return card if card.id == folder.name else card.model_copy(update={"id": folder.name})


def list_cards(roots: list[Path]) -> dict[str, Path]:
    """Base model id -> folder, over all `roots`; the first root that has an id wins."""
    found: dict[str, Path] = {}
    for folder, text in texts_of_cards(roots):
        if '"family"' in text:
            found.setdefault(folder.name, folder)
    return found


def find_card(model_id: str, roots: list[Path]) -> BaseModelCard:
    """The card of the base model of that id.

    Raises:
        TaskError: `model_not_found`.
    """
    folder = list_cards(roots).get(model_id)
    if folder is None:
        raise TaskError("model_not_found", f"there is no base model {model_id!r}", "model")
    return read_card(folder)


def texts_of_cards(roots: list[Path]) -> Iterator[tuple[Path, str]]:
    """Folder and text of each `card.json` of any kind; one that cannot be read must not hide the others."""
    for root in roots:
        for path in sorted(root.glob(f"[!.]*/{CARD_FILE}")) if root.is_dir() else []:  # a dot: not whole yet
            try:
                yield path.parent, path.read_text(encoding="utf-8", errors="replace")
            except OSError:  # removed at this moment, or no file that we may read
                continue
