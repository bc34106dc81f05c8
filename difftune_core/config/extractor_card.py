"""The card of a feature extractor: what it is, where it comes from, how images are brought to it. Pydantic only."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from difftune_core.config.card import CARD_FILE, CardPart, texts_of_cards
from difftune_core.config.companion_card import is_companion

InceptionResizing = Literal["clean-fid", "pytorch-fid", "torch-fidelity"]


class FeatureExtractorCard(CardPart):
    """`card.json` of a feature extractor's folder."""

    schema_version: Literal[1] = 1
    kind: str = "tiny"
    """Which network: `tiny`, `inception` or `dinov2`."""
    id: str = ""
    """Folder name and public id."""
    description: str = ""
    licence: str = "unknown"
    source: str = ""
    """Where the weights come from."""
    created_at: int = 0
    """Unix seconds."""
    num_parameters: int = 0
    digest: str = ""
    """sha256 of the weights' file."""
    comparable: bool = False
    """Whether distances over its features may be set beside published ones."""
    resizing: InceptionResizing = "clean-fid"
    """Of Inception: whose way of bringing images to 299 pixels is followed."""


def read_extractor_card(folder: Path) -> FeatureExtractorCard:
    """The card in `folder`; where there is none, that of a tiny network.

    Raises:
        pydantic.ValidationError: it is not a feature extractor's card.
    """
    path = folder / CARD_FILE
    card = FeatureExtractorCard.model_validate_json(path.read_bytes() if path.is_file() else b"{}")
    return card if card.id else card.model_copy(update={"id": folder.name})


def list_extractors(roots: list[Path]) -> dict[str, Path]:
    """Feature extractor id -> folder, over all `roots`; the first root that has an id wins."""
    found: dict[str, Path] = {}
    for folder, text in texts_of_cards(roots):
        if '"family"' not in text and not is_companion(text):  # which only base models have
            found.setdefault(folder.name, folder)
    return found


def readable_extractors(roots: list[Path]) -> dict[str, FeatureExtractorCard]:
    """Their cards; one that cannot be read is left out."""
    cards = {}
    for extractor_id, folder in sorted(list_extractors(roots).items()):
        try:
            cards[extractor_id] = read_extractor_card(folder)
        except (ValidationError, OSError):
            continue
    return cards
