"""All model families of this installation: those of this package, and those that other distributions bring.

A distribution brings a family by an entry point of the group `difftune.families`: its name is what cards say in
`family`, its object a `Family`. A trainer finds it as the command line does, because both look at what is installed.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from difftune_core.config.card import BaseModelCard, list_cards, read_card
from difftune_core.families.base import Family
from difftune_core.families.base_model import BaseModel
from difftune_core.files import folder_digest
from difftune_core.hooks import TaskError

GROUP = "difftune.families"
"""The group of entry points."""
FAMILIES = {
    "dit": "difftune_core.families.dit.family:DIT",
    "stable-diffusion": "difftune_core.families.controlnet.family:CONTROLNET",
}
"""Where this package's own families are: each is imported when a base model is one of it."""


def family_of(card: BaseModelCard) -> Family:
    """Find the family that a card names.

    Raises:
        TaskError: `family_unknown`, nothing that is installed brings it.
    """
    return _found(card.family)


def all_families() -> list[Family]:
    """Load every family, this package's first."""
    brought = {point.name for point in entry_points(group=GROUP)}
    return [_found(name) for name in [*FAMILIES, *sorted(brought - FAMILIES.keys())]]


@cache
def _found(name: str) -> Family:
    if name in FAMILIES:
        module, _, attribute = FAMILIES[name].partition(":")
        own: Family = getattr(import_module(module), attribute)
        return own
    points = entry_points(group=GROUP, name=name)
    if not points:
        raise TaskError("family_unknown", f"no model family {name!r} is installed here", "model")
    brought = next(iter(points)).load()
    if not isinstance(brought, Family):
        raise RuntimeError(f"the entry point {name!r} of {GROUP} is no Family: {brought!r}")  # noqa: TRY004
    return brought


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
