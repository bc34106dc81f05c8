"""`difftune retention`: images of a base model that many jobs can share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console

from cli.card import moment
from cli.printing import sheet, table, tell
from cli.results import To, fetched
from cli.sending import send
from cli.service import AsJson, DataDir, Key, Limit, Url, service
from cli.settings import failed
from cli.submit import INTERRUPTED, Set, set_field
from cli.transfer import bars, told
from difftune.service import Service

retention = typer.Typer(
    name="retention", help="Retention sets: make, list, show, download, cancel, delete.", no_args_is_help=True
)

RetentionSet = Annotated[str, typer.Argument(help="Id of the retention set (rset_...).")]
Model = Annotated[str, typer.Argument(help="Id of the base model whose images are retained.")]
NumImages = Annotated[int | None, typer.Option(help="How many; default: the model card's.", min=1)]
Seed = Annotated[int | None, typer.Option(help="Of their noise.", min=0)]
Images = Annotated[
    str | None, typer.Option("--data", help="Take these in place of drawing some: an archive, a folder, or ds_...")
]
Watch = Annotated[bool, typer.Option("--watch", help="Stay and show progress until it is made.")]
_PATH = "/v1/retention_sets"
_MADE, _POLL_S = "succeeded", 0.5
_COLUMNS = {
    "id": "ID",
    "status": "STATUS",
    "images": "IMAGES",
    "model": "MODEL",
    "source": "SOURCE",
    "seed": "SEED",
    "created": "CREATED",
    "reason": "REASON",
}


@retention.command("make")
def make(
    model: Model,
    *,
    num_images: NumImages = None,
    seed: Seed = None,
    images: Images = None,
    fields: Set = None,
    watch: Watch = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Have images of a base model drawn, or taken from a data set, for jobs to share; prints the set's id."""
    given = {"num_images": num_images, "seed": seed}
    body: dict[str, Any] = {"model": model} | {name: value for name, value in given.items() if value is not None}
    for one in fields or []:
        set_field(body, one)
    with service(url, key, data_dir) as asked:
        if images is not None:
            is_id = images.startswith("ds_") and not Path(images).exists()
            body["training_file"] = images if is_id else send(asked, Path(images), told(), {})["id"]
        found = asked.ask(_PATH, method="POST", json=body)
        if watch:
            found = _watched(asked, found, told())
    tell(found, found["id"], as_json=as_json)
    if error := found["error"]:
        raise failed(f"{found['id']} is {found['status']}: {error['message']}")


@retention.command("list")
def list_sets(
    *, limit: Limit = 20, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """List the retention sets of your tenant, newest first."""
    with service(url, key, data_dir) as asked:
        found = asked.ask(_PATH, params={"limit": limit})["data"]
    tell(found, table([_row(one) for one in found], _COLUMNS), as_json=as_json)


@retention.command("show")
def show(
    retention_set: RetentionSet, *, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show how a retention set stands, and how its images are drawn."""
    with service(url, key, data_dir) as asked:
        found = asked.ask(_path_of(retention_set))
    shown = {name: value for name, value in found.items() if value is not None}
    times = {name: moment(found[name]) for name in ("created_at", "settled_at") if found[name] is not None}
    tell(found, sheet(shown | times), as_json=as_json)


@retention.command("download")
def download(
    retention_set: RetentionSet,
    *,
    to: To = Path(),
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Fetch images and labels of a set as one safetensors file, its sha256 checked. Prints its path."""
    with service(url, key, data_dir) as asked:
        link = asked.ask(f"{_path_of(retention_set)}/content", params={"redirect": "false"})
        path = fetched(asked, link["url"], to / link["filename"], link["sha256"])
    tell({"id": retention_set, "path": str(path), "sha256": link["sha256"]}, str(path), as_json=as_json)


@retention.command("cancel")
def cancel(
    retention_set: RetentionSet, *, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Give up a set that is not made yet."""
    with service(url, key, data_dir) as asked:
        found = asked.ask(f"{_path_of(retention_set)}/cancel", method="POST")
    tell(found, f"{found['id']} is {found['status']}", as_json=as_json)


@retention.command("delete")
def delete(
    retention_set: RetentionSet, *, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Delete a set that no unfinished job uses."""
    with service(url, key, data_dir) as asked:
        gone = asked.ask(_path_of(retention_set), method="DELETE")
    tell(gone, f"{retention_set} is deleted", as_json=as_json)


def _path_of(retention_set: str) -> str:
    return f"{_PATH}/{quote(retention_set, safe='')}"


def _watched(asked: Service, found: dict[str, Any], console: Console) -> dict[str, Any]:
    try:
        with bars(console) as progress:
            task = progress.add_task(f"images of {found['model']}", total=None)
            while found["settled_at"] is None and found["status"] != _MADE:
                time.sleep(_POLL_S)
                found = asked.ask(_path_of(found["id"]))
                progress.update(task, completed=found["progress"]["done"], total=found["progress"]["total"])
    except KeyboardInterrupt:
        console.print(f"it is made all the same; `difftune retention cancel {found['id']}` gives it up")
        raise typer.Exit(INTERRUPTED) from None
    return found


def _row(found: dict[str, Any]) -> dict[str, Any]:
    progress = found["progress"]
    seed = "" if found["seed"] is None else str(found["seed"])
    images = str(found["num_images"]) if found["status"] == _MADE else f"{progress['done']} of {progress['total']}"
    times = {"created": moment(found["created_at"]), "reason": (found["error"] or {}).get("message")}
    return {**found, "images": images, "seed": seed, **times}
