"""The card of what stands beside a base model: a ControlNet, a network that draws control images, a CLIP model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from difftune_core.config.card import CardPart, texts_of_cards
from difftune_core.config.model_ids import CompanionKind

_KIND = re.compile(rf'"kind":\s*"({"|".join(get_args(CompanionKind))})"')


class CompanionCard(CardPart):
    """`card.json` of a ControlNet's, an annotator's or a CLIP model's folder."""

    schema_version: Literal[1] = 1
    kind: CompanionKind
    id: str
    """Folder name and public id."""
    description: str = ""
    licence: str = "unknown"
    source: str = ""
    """Where the weights come from."""
    created_at: int = 0
    """Unix seconds."""
    num_parameters: int = 0
    digest: str
    """sha256 over the files, as of a base model."""
    conditions: tuple[str, ...] = ()
    """What an annotator draws; what a ControlNet follows, where that is known."""
    anatomy: dict[str, Any] = {}  # noqa: RUF012  # pydantic copies defaults
    """Of a ControlNet: what it must have in common with a UNet (`difftune_core.config.controlnet_fit`)."""


def is_companion(card: str) -> bool:
    """Whether the text of a `card.json` is one of these."""
    return _KIND.search(card) is not None


def readable_companions(roots: list[Path]) -> dict[str, CompanionCard]:
    """Cards by id, over all `roots`; the first root that has an id wins, one that cannot be read is left out."""
    return {companion_id: card for companion_id, (card, _) in located_companions(roots).items()}


def located_companions(roots: list[Path]) -> dict[str, tuple[CompanionCard, Path]]:
    """The same, each with its folder."""
    found: dict[str, tuple[CompanionCard, Path]] = {}
    for folder, text in texts_of_cards(roots):
        if folder.name in found or not is_companion(text):
            continue
        try:
            card = CompanionCard.model_validate_json(text)
        except ValidationError:
            continue
        found[folder.name] = card.model_copy(update={"id": folder.name}), folder  # of a copied folder
    return dict(sorted(found.items()))
