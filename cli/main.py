"""The `difftune` command: a list of its verbs."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from cli.backup import backup, restore
from cli.compare.command import compare
from cli.comparisons import comparisons
from cli.continuing import continue_job
from cli.datasets import datasets
from cli.demo.command import demo, demo_controlnet
from cli.doctor import doctor
from cli.generate import generate
from cli.jobs import cancel, jobs, list_jobs, pause, resume, show_job
from cli.keys import commands as keys
from cli.migrate import migrate
from cli.models import models
from cli.results import download, logs, report
from cli.retention import retention
from cli.sample_data import sample_data
from cli.secrets import commands as secrets
from cli.submit import plan, submit, watch_job
from cli.up import up

app = typer.Typer(
    name="difftune",
    help="Fine-tune diffusion models with Diff-Tuning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"difftune {version('difftune')}")
        raise typer.Exit


@app.callback()
def _difftune(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fine-tune diffusion models with Diff-Tuning."""


_JOBS, _THINGS, _SERVICE = "Jobs", "Data, models and results", "Running a service"

app.command(rich_help_panel=_JOBS)(submit)
app.command(rich_help_panel=_JOBS)(plan)
app.command("watch", rich_help_panel=_JOBS)(watch_job)
app.command("list", rich_help_panel=_JOBS)(list_jobs)
app.command("show", rich_help_panel=_JOBS)(show_job)
app.command(rich_help_panel=_JOBS)(logs)
app.command(rich_help_panel=_JOBS)(report)
app.command(rich_help_panel=_JOBS)(download)
app.command(rich_help_panel=_JOBS)(pause)
app.command(rich_help_panel=_JOBS)(resume)
app.command(rich_help_panel=_JOBS)(cancel)
app.command("continue", rich_help_panel=_JOBS)(continue_job)
jobs.command("continue")(continue_job)
app.add_typer(jobs, rich_help_panel=_JOBS)
app.command(rich_help_panel=_THINGS)(generate)
app.command(rich_help_panel=_THINGS)(compare)
app.add_typer(comparisons, rich_help_panel=_THINGS)
app.add_typer(datasets, rich_help_panel=_THINGS)
app.add_typer(retention, rich_help_panel=_THINGS)
app.add_typer(models, rich_help_panel=_THINGS)
app.command("sample-data", rich_help_panel=_THINGS)(sample_data)
app.command(rich_help_panel=_SERVICE)(up)
app.command(rich_help_panel=_SERVICE)(demo)
app.command("demo-controlnet", rich_help_panel=_SERVICE)(demo_controlnet)
app.command(rich_help_panel=_SERVICE)(doctor)
app.command(rich_help_panel=_SERVICE)(migrate)
app.command(rich_help_panel=_SERVICE)(backup)
app.command(rich_help_panel=_SERVICE)(restore)
app.add_typer(keys, rich_help_panel=_SERVICE)
app.add_typer(secrets, rich_help_panel=_SERVICE)


def main() -> None:
    """Run the command line."""
    app()
