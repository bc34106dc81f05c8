"""The `difftune` command: a list of its verbs."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from cli.backup import backup, restore
from cli.compare.command import compare
from cli.comparisons import comparisons
from cli.datasets import datasets
from cli.demo.command import demo, demo_controlnet
from cli.doctor import doctor
from cli.jobs import jobs
from cli.keys import commands as keys
from cli.migrate import migrate
from cli.models import models
from cli.results import download, logs, report
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


app.command()(up)
app.command()(submit)
app.command()(plan)
app.command("watch")(watch_job)
app.command()(logs)
app.command()(report)
app.command()(download)
app.add_typer(jobs)
app.add_typer(datasets)
app.command("sample-data")(sample_data)
app.command()(compare)
app.add_typer(comparisons)
app.add_typer(models)
app.command()(demo)
app.command("demo-controlnet")(demo_controlnet)
app.command()(doctor)
app.command()(migrate)
app.command()(backup)
app.command()(restore)
app.add_typer(secrets)
app.add_typer(keys)


def main() -> None:
    """Run the command line."""
    app()
