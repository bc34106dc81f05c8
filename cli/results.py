"""`difftune logs`, `report` and `download`: what a job printed, found and made."""

from __future__ import annotations

import json
import time
import webbrowser
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from api.jobs.states import FINAL
from cli.jobs import Job
from cli.printing import tell
from cli.service import AsJson, DataDir, Key, Url, service
from cli.settings import failed
from cli.transfer import bar, told
from difftune.jobs import path_of
from difftune.service import Service

_POLL_S = 1.0
Attempt = Annotated[int | None, typer.Option(help="Only this attempt.", min=1)]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")]
To = Annotated[Path, typer.Option(help="Folder that the files are put into.")]
Open = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]
Link = Annotated[
    bool, typer.Option("--link", help="Fetch nothing: print a link that shows the page in any browser for a while.")
]
Which = Annotated[str, typer.Argument(help="Id of a job (its result, else its newest checkpoint) or of a checkpoint.")]
Format = Annotated[
    str, typer.Option("--format", help="safetensors, diffusers, original or single_file: what the model has.")
]


def logs(
    job: Job,
    *,
    follow: Follow = False,
    attempt: Attempt = None,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print what a job's trainers printed."""
    params = {} if attempt is None else {"attempt": attempt}
    with service(url, key, data_dir) as asked:
        after: dict[str, str] = {}
        while True:
            over = (
                not follow or asked.ask(path_of(job))["status"] in FINAL
            )  # before reading, so that the end is read too
            for piece in asked.pages(f"{path_of(job)}/logs", **params, **after):
                typer.echo(json.dumps(piece) if as_json else piece["text"], nl=as_json)
                after = {"after": piece["id"]}
            if over:
                break
            time.sleep(_POLL_S)
    if not after:
        of = f"attempt {attempt} of {job}" if attempt else job
        typer.echo(f"there is no log of {of}: nothing was printed", err=True)


def report(
    job: Job,
    *,
    to: To = Path(),
    browse: Open = False,
    link: Link = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a job's report: its page, its figures as JSON, sample images. Prints their paths."""
    with service(url, key, data_dir) as asked:
        found, about = list(asked.pages(f"{path_of(job)}/reports")), asked.ask(path_of(job))
        if not found:
            raise failed(_not_there(about, "report", "it is written after the first evaluation"))
        if link:
            page = next(file for file in found if file["kind"] == "report_html")
            shown = asked.ask(page["url"], params={"redirect": "false"})
            tell(shown, shown["url"], as_json=as_json)
            return
        for file in found:
            path = fetched(asked, file["url"], to / f"{_named(about)}-{file['filename']}", file["sha256"])
            file["path"] = str(path)
            if not as_json:
                typer.echo(path)
            if browse and file["kind"] == "report_html":
                webbrowser.open(path.resolve().as_uri())
    if as_json:
        tell(found, "", as_json=True)


def download(
    which: Which,
    *,
    form: Format = "safetensors",
    to: To = Path(),
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the weights of a checkpoint, their sha256 checked. Prints their path."""
    with service(url, key, data_dir) as asked:
        checkpoint = checkpoint_of(asked, which)
        link = asked.ask(
            f"/v1/checkpoints/{quote(checkpoint, safe='')}/download", params={"format": form, "redirect": "false"}
        )
        path = fetched(asked, link["url"], to / link["filename"], link["sha256"])
    told_of = {"checkpoint": checkpoint, "path": str(path), "sha256": link["sha256"], "bytes": path.stat().st_size}
    tell(told_of, str(path), as_json=as_json)


def checkpoint_of(asked: Service, which: str) -> str:
    """Return the id of a checkpoint, or of a job's result or newest checkpoint."""
    if which.startswith("ckpt_"):
        return which
    about = asked.ask(path_of(which))
    if result := about["fine_tuned_model"]:
        return str(result)
    newest = asked.ask(f"{path_of(which)}/checkpoints", params={"limit": 1})["data"]
    if not newest:
        raise failed(_not_there(about, "checkpoint", "it is saved while the job trains"))
    return str(newest[0]["id"])


def _not_there(job: dict[str, Any], what: str, when: str) -> str:
    """Return why a job has none of these, and whether it still may have."""
    is_over = job["status"] in FINAL
    why = f"it is {job['status']}, and ended before there was one" if is_over else when
    return f"{job['id']} has no {what}{'' if is_over else ' yet'}: {why}"


def _named(job: dict[str, Any]) -> str:
    """Return what names of a job's files begin with, as those of its checkpoints do."""
    return "-".join(part for part in (job["suffix"], job["id"]) if part)


def fetched(asked: Service, path: str, target: Path, sha256: str) -> Path:
    """Write a file of the service with a bar, and return its path."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with bar(told(), target.name) as heard:
            asked.download(path, target, sha256, heard)
    except OSError as error:
        raise failed(f"{target} cannot be written: {error.strerror}") from None
    return target
