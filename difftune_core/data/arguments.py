"""How a command is told of its data sets: an archive or folder each, and what their owner says of them."""

from __future__ import annotations

import argparse
from typing import get_args

from pydantic import ValidationError

from difftune_core.config.dataset import DatasetOptions, OnBadFiles, Splits, Validated
from difftune_core.hooks import TaskError

_SETTINGS = {
    "on_bad_files": ("files that cannot be used: refuse the set, or skip them and list them", get_args(OnBadFiles)),
    "max_skipped_share": ("the most that may be skipped, as a share of all", None),
    "splits": (
        "of train/, val/ and test/ folders in --data: which is meant; hold_out: train/ and val/",
        get_args(Splits),
    ),
}


def add_arguments(parser: argparse.ArgumentParser, *, validation: bool = False) -> None:
    """Settings of the data set of `--data` as options of their own, and for programs, of each as JSON."""
    for name, (words, choices) in _SETTINGS.items():
        kind = float if name == "max_skipped_share" else str
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, choices=choices, help=words)
    parser.add_argument("--data-options", help=argparse.SUPPRESS)
    parser.add_argument("--data-validated", help=argparse.SUPPRESS)
    if validation:
        parser.add_argument("--validation-validated", help=argparse.SUPPRESS)
        parser.add_argument("--validation-options", help="the same settings of --validation, as JSON")


def options_of(args: argparse.Namespace, role: str = "data") -> DatasetOptions:
    """The settings of the data set `--data` or `--validation`.

    Raises:
        TaskError: `invalid_config` naming the setting.
    """
    try:
        options = DatasetOptions.model_validate_json(getattr(args, f"{role}_options", None) or "{}")
        if role != "data":
            return options
        given = {name: getattr(args, name) for name in _SETTINGS if getattr(args, name) is not None}
        return DatasetOptions.model_validate({**options.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        field = "/".join(str(part) for part in first["loc"]) or f"{role}_options"
        raise TaskError("invalid_config", f"{field}: {first['msg']}", field) from None


def validated_of(args: argparse.Namespace, role: str = "data") -> Validated | None:
    """Return what the validation of `--data` or `--validation` has left, where a supervisor told of it."""
    given = getattr(args, f"{role}_validated")
    return None if given is None else Validated.model_validate_json(given)
