"""Finds the implementation of a card's family, and the base model of an id."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from difftune_core.config.card import BaseModelCard, list_cards, read_card
from difftune_core.config.families import all_rules, rules_of
from difftune_core.config.outside import load
from difftune_core.families.base import Family
from difftune_core.families.base_model import BaseModel
from difftune_core.files import folder_digest
from difftune_core.hooks import TaskError


def family_of(card: BaseModelCard) -> Family:
    """Find the family that a card names.

    Raises:
        TaskError: `family_unknown`, nothing that is installed brings it.
    """
    return _loaded(rules_of(card).implementation)


def all_families() -> list[Family]:
    """Load every family, this package's first."""
    return [_loaded(rules.implementation) for rules in all_rules().values()]


@cache
def _loaded(implementation: str) -> Family:
    found = load(implementation)
    if not isinstance(found, Family):
        raise RuntimeError(f"{implementation} is no Family: {found!r}")  # noqa: TRY004  as in rules
    return found


def find_base_model(model_id: str, roots: list[Path]) -> BaseModel:
    """Open the base model of that id.

    Raises:
        TaskError: `model_not_found`, or `model_mismatch` where the files do not fit the card's digest.
    """
    folder = list_cards(roots).get(model_id)
    if folder is None:
        raise TaskError("model_not_found", f"there is no base model {model_id!r}", "model")
    card = read_card(folder)
    model = family_of(card).base_model(folder, card)
    if card.digest != folder_digest(folder):
        raise TaskError("model_mismatch", f"the files of {model_id!r} do not fit the digest in its card", "model")
    for name, made in model.anatomy().items():
        if (said := getattr(card, name)) != made:
            raise TaskError(
                "model_mismatch", f"the card of {model_id!r} says {name} {said!r}, its files {made!r}", "model"
            )
    return model
