"""`difftune submit` and `difftune watch`: start a fine-tuning job and see it run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from cli.card import card
from cli.follow import follow
from cli.jobs import Job
from cli.plan_card import plan_card
from cli.printing import tell
from cli.probing import probe as run_probe
from cli.sending import OnBadFiles, Splits, send, settings_of
from cli.service import AsJson, DataDir, Key, Url, service
from cli.settings import failed
from cli.transfer import told
from difftune.bodies import choose_method, told_of_methods
from difftune.jobs import path_of
from difftune.service import Service, ServiceError

Data = Annotated[
    str | None, typer.Argument(help="Images to tune on: an archive, a folder, or the id of a data set (ds_...).")
]
Validation = Annotated[str | None, typer.Option(help="The same of held-out images to judge by.")]
Config = Annotated[
    Path | None, typer.Option(help="YAML or JSON as for POST /v1/fine_tuning/jobs; options go before it.")
]
Model = Annotated[str | None, typer.Option(help="Id of a base model, or of a checkpoint; default: tiny-dit.")]
Method = Annotated[str | None, typer.Option(help=told_of_methods())]
MaxSteps = Annotated[int | None, typer.Option(help="Optimizer steps; default: the model card's.", min=1)]
Epochs = Annotated[float | None, typer.Option(help="In place of steps: passes over the training images.")]
Seed = Annotated[int | None, typer.Option(help="Of all randomness.", min=0)]
Name = Annotated[str | None, typer.Option(help="Goes into the names of files (`suffix` in the API).")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other field: --set method.diff_tuning.hyperparameters.tau=0.5; repeatable."),
]
Watch = Annotated[bool, typer.Option("--watch", help="Stay and show progress until the job has ended.")]
Probe = Annotated[
    bool, typer.Option("--probe", help="Take a few steps on images of noise first, so that the plan tells seconds.")
]
_FILES = ("training_file", "validation_file")
INTERRUPTED = 130


def submit(
    data: Data = None,
    *,
    validation: Validation = None,
    config: Config = None,
    model: Model = None,
    method: Method = None,
    max_steps: MaxSteps = None,
    epochs: Epochs = None,
    seed: Seed = None,
    name: Name = None,
    fields: Set = None,
    on_bad_files: OnBadFiles = None,
    splits: Splits = None,
    watch: Watch = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Upload images and submit a job that tunes a model on them; prints the job's id."""
    given = {"training_file": data, "validation_file": validation, "model": model, "seed": seed, "suffix": name}
    body = _body(given, config, method, {"max_steps": max_steps, "epochs": epochs}, fields)
    console = told()
    with service(url, key, data_dir) as asked:
        settings = dict(zip(_FILES, (settings_of(on_bad_files, splits), settings_of(on_bad_files, None)), strict=True))
        job = _submitted(asked, body, console, settings)
        if watch:
            job = watched(asked, job["id"], console)
    tell(job, job["id"], as_json=as_json)
    exit_by(job)


def plan(
    data: Data = None,
    *,
    validation: Validation = None,
    config: Config = None,
    model: Model = None,
    method: Method = None,
    max_steps: MaxSteps = None,
    epochs: Epochs = None,
    seed: Seed = None,
    name: Name = None,
    fields: Set = None,
    on_bad_files: OnBadFiles = None,
    splits: Splits = None,
    probe: Probe = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell what a job will need and take, without submitting it; images that are named as files are uploaded."""
    given = {"training_file": data, "validation_file": validation, "model": model, "seed": seed, "suffix": name}
    body = _body(given, config, method, {"max_steps": max_steps, "epochs": epochs}, fields)
    with service(url, key, data_dir) as asked:
        settings = dict(zip(_FILES, (settings_of(on_bad_files, splits), settings_of(on_bad_files, None)), strict=True))
        found = _submitted(asked, body, told(), settings, dry_run=True)
        if probe and not found["seconds_known_from"]:
            run_probe(asked, body, found, told())
            found = _submitted(asked, body, told(), settings, dry_run=True)
    tell(found, plan_card(found), as_json=as_json)


def _body(
    given: dict[str, Any],
    config: Path | None,
    method: str | None,
    lengths: dict[str, float | None],
    fields: list[str] | None,
) -> dict[str, Any]:
    """The job's fields: those of a config file, and before them what options say."""
    body = _read(config) if config else {}
    body |= {field: value for field, value in given.items() if value is not None}
    body.setdefault("model", "tiny-dit")
    if all(value is not None for value in lengths.values()):
        raise failed("--max-steps or --epochs, not both")
    choose_method(body, method, lengths)
    for one in fields or []:
        set_field(body, one)
    if "training_file" not in body:
        raise failed("which images? Name an archive, or the id of a data set")
    return body


def watch_job(job: Job, url: Url = None, key: Key = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show a job's progress until it has ended; the exit status is 0 if it succeeded."""
    with service(url, key, data_dir) as asked:
        found = watched(asked, asked.ask(path_of(job))["id"], told())
        newest = asked.ask(f"{path_of(job)}/checkpoints", params={"limit": 1})["data"]
        reports = list(asked.pages(f"{path_of(job)}/reports"))
    tell(found, card(found, newest, reports), as_json=as_json)
    exit_by(found)


def watched(asked: Service, job_id: str, console: Console) -> dict[str, Any]:
    """Show a job until it has ended, and return it."""
    try:
        follow(asked, {job_id: job_id}, console, tell=True)
    except KeyboardInterrupt:
        console.print(f"the job runs on; `difftune watch {job_id}` shows it again, `difftune cancel` ends it")
        raise typer.Exit(INTERRUPTED) from None
    return asked.ask(path_of(job_id))


def exit_by(job: dict[str, Any]) -> None:
    """Raise the exit of a job that has failed or was cancelled."""
    if job["status"] in {"failed", "cancelled"}:
        why = f": {job['error']['message']}" if job["error"] else ""
        raise failed(f"{job['id']} is {job['status']}{why}")


def _submitted(
    asked: Service,
    body: dict[str, Any],
    console: Console,
    settings: dict[str, dict[str, str]],
    *,
    dry_run: bool = False,
) -> dict[str, Any]:
    """The job, or with `dry_run` its plan, with its files uploaded; what was uploaded is named where it is refused."""
    uploaded: list[str] = []
    try:
        for field in [field for field in _FILES if body.get(field)]:
            if not _is_dataset(named := body[field]):
                body[field] = _uploaded(asked, Path(named), console, settings[field])
                uploaded.append(body[field])
        params = {"dry_run": True} if dry_run else {}
        return asked.ask("/v1/fine_tuning/jobs", method="POST", json=body, params=params)
    except ServiceError as error:
        kept = "uploaded and kept: {}; name it in place of the file, or `difftune datasets delete` it"
        raise ServiceError("\n".join([str(error), *[kept.format(id_) for id_ in uploaded]])) from None


def _is_dataset(named: str) -> bool:
    return named.startswith("ds_") and not Path(named).exists()


def _uploaded(asked: Service, path: Path, console: Console, settings: dict[str, str]) -> str:
    found = send(asked, path, console, settings)
    console.print(f"{found['filename']}: {found['num_items']} images, {found['id']}", markup=False, highlight=False)
    return str(found["id"])


def set_field(body: dict[str, Any], assignment: str) -> None:
    """Put what `--set` says, a path of names and a value as YAML, into a body."""
    path, equals, text = assignment.partition("=")
    if not (path and equals):
        raise failed(f"--set {assignment}: a field and its value, as in evaluation.every_steps=100")
    *parents, last = path.split(".")
    place = body
    for parent in parents:
        inner = place.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise failed(f"--set {path}: {parent} is a value and has no fields")
        place = inner
    place[last] = _parsed(text, f"--set {path}")


def _read(path: Path) -> dict[str, Any]:
    try:
        body = _parsed(path.read_text(encoding="utf-8"), f"--config {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise failed(f"--config {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(body, dict):
        raise failed(f"--config {path}: it must hold the fields of a job")
    for field in _FILES:
        if isinstance(named := body.get(field), str) and (path.parent / named).exists():
            body[field] = str(path.parent / named)
    return body


def _parsed(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise failed(f"{where}: {' '.join(str(error).split())}") from None
