"""The `difftune` command: a list of its verbs."""

from __future__ import annotations

import typer

from cli.backup import backup, restore
from cli.compare.command import compare
from cli.demo.command import demo, demo_controlnet
from cli.doctor import doctor
from cli.jobs import jobs
from cli.migrate import migrate
from cli.models import models
from cli.secrets import commands as secrets
from cli.up import up

app = typer.Typer(
    name="difftune",
    help="Fine-tune diffusion models with Diff-Tuning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _difftune() -> None:
    """Fine-tune diffusion models with Diff-Tuning."""


app.command()(up)
app.command()(demo)
app.command("demo-controlnet")(demo_controlnet)
app.command()(compare)
app.command()(doctor)
app.command()(migrate)
app.command()(backup)
app.command()(restore)
app.add_typer(models)
app.add_typer(secrets)
app.add_typer(jobs)


def main() -> None:
    """Run the command line."""
    app()
