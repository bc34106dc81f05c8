"""`difftune datasets`: upload archives of images and see what was found in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from cli.card import moment
from cli.printing import printable, table, tell
from cli.sending import OnBadFiles, Splits, send, settings_of
from cli.service import AsJson, DataDir, Key, Limit, Url, service
from cli.transfer import told

Dataset = Annotated[str, typer.Argument(help="Id of the data set (ds_...).")]
Archive = Annotated[Path, typer.Argument(help="A zip or tar of images, or a folder, which is packed.")]
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
_FINDINGS = (
    ("error", "errors", "num_errors"),
    ("warning", "warnings", "num_warnings"),
    ("skipped", "skipped_files", "num_skipped"),
    ("ignored", "ignored_files", "ignored"),
)
_LISTED = 20  # files that are left out: img2dataset's archives have one beside each image

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
    as_json: AsJson = False,
) -> None:
    """Upload an archive and wait until it was looked at; prints the id of the data set."""
    with service(url, key, data_dir) as asked:
        found = send(asked, archive, told(), settings_of(on_bad_files, splits))
        report = asked.ask(f"/v1/datasets/{found['id']}/report")
    for warning in report.get("warnings") or []:
        typer.echo(printable(f"{warning['path'] or archive.name}: {warning['message']}"), err=True)
    counts = {"images": found["num_items"], "skipped": found["num_skipped"], "ignored": found["num_ignored"]}
    counted = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    typer.echo(f"{archive.name}: {counted}", err=True)
    tell(found, found["id"], as_json=as_json)


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
    tell(found, table(rows, _COLUMNS), as_json=as_json)


@datasets.command()
def report(
    dataset: Dataset, *, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show what was found in a data set: counts, and every file that is at fault, warned of or left out."""
    with service(url, key, data_dir) as asked:
        found = asked.ask(f"/v1/datasets/{quote(dataset, safe='')}/report")
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    typer.echo(f"{dataset} is {found['status']}: " + ", ".join(f"{found.get(name, 0)} {name}" for name in _COUNTS))
    for word, findings, count in _FINDINGS:
        listed = (found.get(findings) or [])[: None if word in {"error", "warning"} else _LISTED]
        for finding in listed:
            said = f"{word}: {finding['path'] or 'the data set'}: {finding['message']} ({finding['code']})"
            typer.echo(printable(said))
        if (more := (found.get(count) or 0) - len(listed)) > 0:
            typer.echo(f"{word}: and {more} more; all of them are in the file behind full_report_url (--json)")


@datasets.command()
def delete(
    dataset: Dataset, *, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Delete a data set that no unfinished job uses."""
    with service(url, key, data_dir) as asked:
        gone = asked.ask(f"/v1/datasets/{quote(dataset, safe='')}", method="DELETE")
    tell(gone, f"{dataset} is deleted", as_json=as_json)
