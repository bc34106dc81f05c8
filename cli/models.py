"""`difftune models`: what can be tuned, and bringing base models in."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from pydantic import ValidationError

from api.base_models import store as stored
from api.settings import Settings
from api.storage import StoreError, open_store
from cli.importing import import_model
from cli.printing import sheet, table
from cli.removing import remove_model
from cli.service import AsJson, KeyForUrl, ask
from cli.settings import failed, read_settings
from difftune_core.config.card import (
    CardPart,
    CardT,
    CompanionCard,
    FeatureExtractorCard,
    Role,
    list_cards,
    read_card,
    readable_cards,
)

models = typer.Typer(name="models", help="Base models: list, show, bring in, remove.", no_args_is_help=True)

Url = Annotated[str | None, typer.Option(envvar="DIFFTUNE_URL", help="A running service to ask.")]
DataDir = Annotated[Path | None, typer.Option(help="Data folder to read where no --url is given.")]
Extractors = Annotated[bool, typer.Option("--extractors", help="The metrics' feature extractors alone; without --url.")]
_COLUMNS = {
    "id": "ID",
    "family": "FAMILY",
    "image_size": "PIXELS",
    "num_classes": "CLASSES",
    "num_parameters": "PARAMETERS",
    "licence": "LICENCE",
}
_EXTRACTOR_COLUMNS = {
    "id": "FEATURE EXTRACTOR",
    "kind": "KIND",
    "comparable": "COMPARABLE",
    "num_parameters": "PARAMETERS",
    "licence": "LICENCE",
}
_COMPANION_COLUMNS = {
    "id": "CONTROLNET, ANNOTATOR OR CLIP",
    "kind": "KIND",
    "conditions": "CONDITIONS",
    "num_parameters": "PARAMETERS",
    "licence": "LICENCE",
}


@models.command("list")
def list_models(
    url: Url = None,
    key: KeyForUrl = None,
    data_dir: DataDir = None,
    extractors: Extractors = False,
    as_json: AsJson = False,
) -> None:
    """Base models of a running service; or of a data folder and those bundled, with all else that is there."""
    if extractors and not url:
        kept = list(_extractors(data_dir).values())
        typer.echo(json.dumps(kept, indent=1) if as_json else table(kept, _EXTRACTOR_COLUMNS))
        return
    if extractors:
        raise failed("a service lists base models only: ask without --url for feature extractors")
    found = ask(url, key, "/v1/models?kind=base_model")["data"] if url else list(_local(data_dir).values())
    typer.echo(json.dumps(found, indent=1) if as_json else table(found, _COLUMNS))
    if not url and not as_json:
        typer.echo("\n" + table(list(_extractors(data_dir).values()), _EXTRACTOR_COLUMNS))
        if companions := list(_companions(data_dir).values()):
            typer.echo("\n" + table(companions, _COMPANION_COLUMNS))


@models.command("show")
def show_model(
    model: str, url: Url = None, key: KeyForUrl = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """One model of any kind: where it comes from, its licence, digest, defaults and figures, and its folder here."""
    if url:
        found = ask(url, key, f"/v1/models/{quote(model, safe='')}")
    else:
        cards = base_models = _local(data_dir)
        if model not in cards:
            cards = base_models | _extractors(data_dir) | _companions(data_dir)
        if model not in cards:
            raise failed(_no_model(model, list(base_models), list(cards)))
        found = cards[model]
    typer.echo(json.dumps(found, indent=1) if as_json else sheet(found))


models.command("import")(import_model)
models.command("remove")(remove_model)


def _no_model(model: str, base_models: list[str], known: list[str]) -> str:
    similar = get_close_matches(model, known)
    meant = f", did you mean {' or '.join(similar)}?" if similar else "."
    return f"there is no base model {model!r}{meant} There are: {', '.join(base_models) or 'none'}."


def _local(data_dir: Path | None) -> dict[str, dict[str, Any]]:
    """Cards by id, from the model folders and the store; one that cannot be read is named and left out."""
    settings = read_settings(data_dir)
    found = _in_store(settings)
    for model_id, folder in list_cards(settings.model_roots).items():
        try:
            found[model_id] = _located(read_card(folder), folder)
        except (ValidationError, OSError):
            typer.echo(f"difftune: the card in {folder} cannot be read", err=True)
    return dict(sorted(found.items()))


def _extractors(data_dir: Path | None) -> dict[str, dict[str, Any]]:
    """Cards of feature extractors by id, from the model folders and the store."""
    settings = read_settings(data_dir)
    found = {}
    for extractor_id, card in _in_store(settings, "extractor").items():
        try:
            found[extractor_id] = FeatureExtractorCard.model_validate({"id": extractor_id, **card}).model_dump()
        except ValidationError:
            typer.echo(f"difftune: the card of {extractor_id} in the object store cannot be read", err=True)
    return dict(sorted((found | _here(FeatureExtractorCard, settings)).items()))


def _companions(data_dir: Path | None) -> dict[str, dict[str, Any]]:
    """Cards of ControlNets, annotators and CLIP models by id, from the model folders and the store."""
    settings = read_settings(data_dir)
    return dict(sorted((_in_store(settings, "companion") | _here(CompanionCard, settings)).items()))


def _here(kind: type[CardT], settings: Settings) -> dict[str, dict[str, Any]]:
    found = readable_cards(kind, settings.model_roots)
    return {model_id: _located(card, folder) for model_id, (card, folder) in found.items()}


def _located(card: CardPart, folder: Path) -> dict[str, Any]:
    """A card and where it lies; what the object store has lies in no folder that could be named."""
    return {**card.model_dump(), "folder": str(folder.resolve())}


def _in_store(settings: Settings, role: Role = "base_model") -> dict[str, dict[str, Any]]:
    """Models in the store; where no store was named and none was made yet, nothing is made."""
    if settings.store_url is None and not (settings.data_dir / "objects").is_dir():
        return {}
    found = {}
    try:
        for model_id, model in stored.listed(open_store(settings)):
            if model is None:
                typer.echo(f"difftune: the index of {model_id} in the object store cannot be read", err=True)
            elif model.role == role:
                found[model_id] = model.card
    except (StoreError, ValueError) as error:
        typer.echo(f"difftune: {error}", err=True)
    return found
