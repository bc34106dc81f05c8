"""`difftune datasets`: upload archives of images and see what was found in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from cli.card import moment
from cli.printing import printable, table
from cli.service import AsJson, DataDir, Key, Url, service
from cli.settings import failed
from cli.transfer import bar, told

Dataset = Annotated[str, typer.Argument(help="Id of the data set (ds_...).")]
Archive = Annotated[Path, typer.Argument(help="A zip or tar of images.")]
OnBadFiles = Annotated[str | None, typer.Option(help="refuse (default) or skip: what becomes of files that are unfit.")]
Splits = Annotated[
    str | None, typer.Option(help="Of an archive with train/ and val/ folders: train, validation, test or hold_out.")
]
Limit = Annotated[int, typer.Option(min=1, max=100, help="The newest so many.")]
_COLUMNS = {
    "id": "ID",
    "filename": "FILE",
    "status": "STATUS",
    "form": "FORM",
    "num_items": "IMAGES",
    "classes": "CLASSES",
    "created": "CREATED",
    "reason": "REASON",
}
_COUNTS = ("entries", "accepted", "rejected", "ignored")

datasets = typer.Typer(name="datasets", help="Data sets: upload, list, report, delete.", no_args_is_help=True)


@datasets.command()
def upload(
    archive: Archive,
    *,
    on_bad_files: OnBadFiles = None,
    splits: Splits = None,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Upload an archive and wait until it was looked at; prints the id of the data set."""
    if not archive.expanduser().is_file():
        raise failed(f"there is no file {archive}")
    given = {name: value for name, value in (("on_bad_files", on_bad_files), ("splits", splits)) if value is not None}
    with service(url, key, data_dir) as asked:
        with bar(told(), f"uploading {archive.name}") as heard:
            uploaded = asked.upload(archive.expanduser(), heard, fields=given)
        found = asked.validated(uploaded)
        report = asked.ask(f"/v1/datasets/{uploaded}/report")
    for warning in report.get("warnings") or []:
        typer.echo(printable(f"{warning['path'] or archive.name}: {warning['message']}"), err=True)
    typer.echo(f"{archive.name}: {found['num_items']} images", err=True)
    typer.echo(uploaded)


@datasets.command("list")
def list_datasets(
    *, limit: Limit = 20, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """List the data sets of your tenant, newest first."""
    with service(url, key, data_dir) as asked:
        found = asked.ask("/v1/datasets", params={"limit": limit})["data"]
    rows = [
        {
            **one,
            "classes": len(one["class_names"] or []) or "",
            "created": moment(one["created_at"]),
            "reason": (one["error"] or {}).get("message"),
        }
        for one in found
    ]
    typer.echo(json.dumps(found, indent=1) if as_json else table(rows, _COLUMNS))


@datasets.command()
def report(
    dataset: Dataset, *, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show what was found in a data set: counts, and every file with an error or a warning."""
    with service(url, key, data_dir) as asked:
        found = asked.ask(f"/v1/datasets/{quote(dataset, safe='')}/report")
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    typer.echo(f"{dataset} is {found['status']}: " + ", ".join(f"{found.get(name, 0)} {name}" for name in _COUNTS))
    for kind in ("errors", "warnings"):
        for fault in found.get(kind) or []:
            said = f"{kind[:-1]}: {fault['path'] or 'the data set'}: {fault['message']} ({fault['code']})"
            typer.echo(printable(said))


@datasets.command()
def delete(dataset: Dataset, url: Url = None, key: Key = None, data_dir: DataDir = None) -> None:
    """Delete a data set that no unfinished job uses."""
    with service(url, key, data_dir) as asked:
        asked.ask(f"/v1/datasets/{quote(dataset, safe='')}", method="DELETE")
    typer.echo(f"{dataset} is deleted")
