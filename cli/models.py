"""`difftune models`: what can be tuned, and bringing base models in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx2
import typer
from pydantic import ValidationError

from api.settings import Settings
from cli.importing import import_model
from difftune_core.card import list_cards, read_card

models = typer.Typer(name="models", help="Base models: list them, show one, bring one in.", no_args_is_help=True)

Url = Annotated[str | None, typer.Option(envvar="DIFFTUNE_URL", help="A running service to ask.")]
Key = Annotated[str | None, typer.Option(envvar="DIFFTUNE_API_KEY", help="API key for --url.", show_envvar=True)]
DataDir = Annotated[Path | None, typer.Option(help="Data folder to read where no --url is given.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
_COLUMNS = {
    "id": "ID",
    "family": "FAMILY",
    "image_size": "PIXELS",
    "num_classes": "CLASSES",
    "num_parameters": "PARAMETERS",
    "licence": "LICENCE",
}
_TIMEOUT_S = 30.0
_MAX_CELL = 40


@models.command("list")
def list_models(url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Base models of a running service, or of a data folder and those bundled."""
    found = _ask(url, key, "")["data"] if url else list(_local(data_dir).values())
    typer.echo(json.dumps(found, indent=1) if as_json else _table(found))


@models.command("show")
def show_model(model: str, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """One base model: where it comes from, its licence, digest, defaults and figures."""
    if url:
        found = _ask(url, key, f"/{quote(model, safe='')}")
    else:
        cards = _local(data_dir)
        if model not in cards:
            raise _failure(f"there is no base model {model!r}. There are: {', '.join(cards) or 'none'}.")
        found = cards[model]
    typer.echo(json.dumps(found, indent=1) if as_json else _sheet(found))


models.command("import")(import_model)


def _local(data_dir: Path | None) -> dict[str, dict[str, Any]]:
    """Cards by id, read from the model folders; one that cannot be read is named and left out."""
    settings = Settings() if data_dir is None else Settings(data_dir=data_dir.expanduser())
    found = {}
    for model_id, folder in sorted(list_cards(settings.model_roots).items()):
        try:
            found[model_id] = read_card(folder).model_dump()
        except (ValidationError, OSError):
            typer.echo(f"difftune: the card in {folder} cannot be read", err=True)
    return found


def _ask(url: str, key: str | None, path: str) -> dict[str, Any]:
    """What `/v1/models` and what is below it answer."""
    if not key:
        raise _failure("--url needs an API key: --key, or DIFFTUNE_API_KEY in the environment")
    try:
        with httpx2.Client(base_url=url, timeout=_TIMEOUT_S, headers={"authorization": f"Bearer {key}"}) as client:
            answer = client.get(f"/v1/models{path}")
            body = answer.json()
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise _failure(f"{url} does not answer as a difftune service: {error}") from None
    if not isinstance(body, dict) or answer.is_error:
        detail = body.get("detail") if isinstance(body, dict) else None
        raise _failure(detail or f"{url} answers with status {answer.status_code}")
    return body


def _failure(message: str) -> typer.Exit:
    typer.echo(f"difftune: {message}", err=True)
    return typer.Exit(1)


def _table(found: list[dict[str, Any]]) -> str:
    rows = [list(_COLUMNS.values()), *([_cell(model.get(name)) for name in _COLUMNS] for model in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value or "").split("\n")[0]
    return text if len(text) <= _MAX_CELL else text[: _MAX_CELL - 3] + "..."


def _sheet(found: dict[str, Any]) -> str:
    """One line a field; what has parts of its own as JSON."""
    lines = []
    for name, value in found.items():
        text = json.dumps(value, indent=1).replace("\n", "\n  ") if isinstance(value, dict | list) else str(value)
        lines.append(f"{name}: {text}")
    return "\n".join(lines)
