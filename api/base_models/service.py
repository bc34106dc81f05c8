"""Base models, as the cards in the model folders and in the object store describe them; a folder's goes first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from pydantic import ValidationError

from api.base_models import store as stored
from api.errors import InvalidInputError, NotFoundError, not_found
from api.settings import Settings
from api.storage import ObjectStore
from difftune_core.config.card import BaseModelCard, CardT, CompanionCard, list_cards, read_card_of
from difftune_core.config.controlnet_fit import check_cards_fit
from difftune_core.config.families import rules_of
from difftune_core.config.methods.table import all_methods, method_names
from difftune_core.config.model_ids import CompanionKind
from difftune_core.config.transfer import TransferConfig

log = structlog.get_logger(__name__)


def cards(settings: Settings, store: ObjectStore) -> dict[str, BaseModelCard]:
    """Cards of base models by id."""
    return _cards_of(BaseModelCard, settings, store)


def companions(settings: Settings, store: ObjectStore) -> dict[str, CompanionCard]:
    """Cards of ControlNets, annotators and CLIP models by id."""
    return _cards_of(CompanionCard, settings, store)


def _cards_of(kind: type[CardT], settings: Settings, store: ObjectStore) -> dict[str, CardT]:
    """Cards of a role by id. One that cannot be read is left out and logged: the others still serve."""
    found: dict[str, CardT] = {}
    for model_id, model in stored.listed(store):
        if (model.role if model else "base_model") == kind.role:
            with _logged(model_id):
                found[model_id] = kind.model_validate(model and {**model.card, "id": model_id})
    for model_id, folder in list_cards(settings.model_roots, kind.role).items():
        with _logged(model_id):
            found[model_id] = read_card_of(kind, folder)
    return dict(sorted(found.items()))


@contextmanager
def _logged(model_id: str) -> Iterator[None]:
    try:
        yield
    except (ValidationError, OSError) as error:
        log.warning("unreadable_model_card", model=model_id, error=str(error))


def any_card(settings: Settings, store: ObjectStore, model_id: str) -> BaseModelCard | CompanionCard:
    """The card of a base model, or of what stands beside one.

    Raises:
        NotFoundError: there is no such model.
    """
    found = companions(settings, store).get(model_id)
    return found if found is not None else card(settings, store, model_id)


def card(settings: Settings, store: ObjectStore, model_id: str) -> BaseModelCard:
    """One card.

    Raises:
        NotFoundError: there is no such model.
    """
    found = cards(settings, store).get(model_id)
    if found is None:
        raise not_found("model", model_id)
    return found


def card_for_job(settings: Settings, store: ObjectStore, model_id: str) -> BaseModelCard:
    """The card of a job's base model.

    Raises:
        InvalidInputError: there is no such model; names the field `model` and the models there are.
    """
    found = cards(settings, store)
    if model_id not in found:
        message = f"There is no base model {model_id!r}. There are: {', '.join(found) or 'none'}."
        raise InvalidInputError("model_not_found", message, param="model", available=list(found))
    return found[model_id]


def check_companions(settings: Settings, store: ObjectStore, config: TransferConfig, base: BaseModelCard) -> None:
    """Refuse a ControlNet to go on from that is none or does not fit, an annotator or a CLIP model that is none, and a
    feature extractor that is nowhere.

    One without a card is left to the trainer.

    Raises:
        InvalidInputError: there is no such model, or it is of another kind, or it draws another condition; names those
            there are.
        TaskError: `model_mismatch`, naming every part of the anatomy that differs.
    """
    found: dict[str, CompanionCard] | None = None
    for wanted, kind, field in config.models():
        if kind == "extractor":
            if not _is_anywhere(settings, store, wanted):
                raise InvalidInputError("model_not_found", f"There is no feature extractor {wanted!r}.", param=field)
        elif kind != "base_model":
            found = companions(settings, store) if found is None else found
            if wanted not in found or found[wanted].kind != kind:
                _refuse_other(settings, store, found, wanted, kind=kind, param=field)
            elif kind == "controlnet":
                check_cards_fit(found[wanted], base)
            elif kind == "annotator" and (condition := rules_of(base).annotated(config)) is not None:
                _check_draws(found, wanted, condition)


def _check_draws(found: dict[str, CompanionCard], wanted: str, condition: str) -> None:
    """Refuse an annotator whose card says that it draws other conditions."""
    drawn = found[wanted].conditions
    if not drawn or condition in drawn:
        return
    there = [id_ for id_, card in found.items() if card.kind == "annotator" and condition in card.conditions]
    message = f"{wanted!r} draws {', '.join(drawn)}, not {condition}. That draw: {', '.join(there) or 'none'}."
    raise InvalidInputError("model_mismatch", message, param="control.annotator", available=there)


def _refuse_other(
    settings: Settings,
    store: ObjectStore,
    found: dict[str, CompanionCard],
    wanted: str,
    *,
    kind: CompanionKind,
    param: str,
) -> None:
    """Refuse what is nowhere, or of another kind than `kind`; a folder needs no card to be used."""
    other = found[wanted].kind if wanted in found else "base model" if wanted in cards(settings, store) else None
    if other is None and _is_anywhere(settings, store, wanted):
        return
    said = f"{wanted!r} is of kind {other}" if other else f"There is no model {wanted!r}"
    there = [id_ for id_, companion in found.items() if companion.kind == kind]
    message = f"{said}. Of kind {kind} are: {', '.join(there) or 'none'}."
    raise InvalidInputError("model_mismatch" if other else "model_not_found", message, param=param, available=there)


def _is_anywhere(settings: Settings, store: ObjectStore, model_id: str) -> bool:
    """Return whether there is a folder or a stored model of that id, whatever it is."""
    folders = any((root / model_id).is_dir() for root in settings.model_roots)
    return folders or model_id in {id_ for id_, _ in stored.listed(store)}


def method_schema(card_: BaseModelCard, method: str) -> dict[str, Any]:
    """JSON Schema of a method's member of a job, with the model's own defaults.

    Raises:
        NotFoundError: there is no such method.
    """
    found = all_methods().get(method)
    if found is None:
        message = f"There is no method {method!r}. There are: {', '.join(method_names())}."
        raise NotFoundError("method_not_found", message)
    schema = found.model_json_schema()
    defaults = {
        "RetentionSetConfig": card_.defaults.retention_set,
        found.settings().__name__: card_.defaults.training,
    }
    for name, definition in schema.get("$defs", {}).items():
        for field, value in defaults.get(name, {}).items():
            if field in definition["properties"]:
                definition["properties"][field]["default"] = value
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
