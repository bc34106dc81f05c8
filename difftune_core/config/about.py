"""Whose report it is: what the service knows of a job, comparison or analysis. Pydantic only: the worker needs it."""

from __future__ import annotations

import argparse

from pydantic import ValidationError

from difftune_core.config.frozen import Frozen
from difftune_core.hooks import TaskError


class About(Frozen):
    """What tells one report from another. By hand there is nothing to tell: every field may be left out."""

    id: str = ""
    """Id of the job, comparison or analysis."""
    name: str = ""
    """What people call the report's subject: the job's suffix."""
    created_at: int = 0
    """When the subject was submitted, in Unix seconds."""
    data: str = ""
    """File name of the training data."""
    validation: str = ""
    """File name of the held-out data, where they have a file of their own."""


def add_argument(parser: argparse.ArgumentParser) -> None:
    """The option by which the service tells a command whose report it makes."""
    parser.add_argument("--about", default="{}", help=argparse.SUPPRESS)


def about_of(args: argparse.Namespace) -> About:
    """Read the option of `add_argument`.

    Raises:
        TaskError: `invalid_config`, it is no `About`.
    """
    try:
        return About.model_validate_json(args.about)
    except ValidationError as error:
        raise TaskError("invalid_config", f"--about: {error.errors()[0]['msg']}", "about") from None
