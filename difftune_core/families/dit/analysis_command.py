"""`python -m difftune_core analyse`: its arguments, and what follows from them."""

from __future__ import annotations

import argparse
from pathlib import Path

from difftune_core.config import about
from difftune_core.config.analysis import MAX_CHECKPOINTS, ChainOfForgetting
from difftune_core.config.card import find_card
from difftune_core.config.resolution import resolve_analysis
from difftune_core.config.stored import RESOLVED_HELP, read_config_file
from difftune_core.data import arguments as data_arguments
from difftune_core.hooks import Hooks, OutcomeEvent, TaskError
from difftune_core.runtime.imports import uncollected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments but for the pipes."""
    parser.add_argument("config", type=Path, help="analysis config, JSON; at the least `model`")
    parser.add_argument(
        "--checkpoint", action="append", required=True, metavar="NAME=DIR", help="a checkpoint's folder; up to four"
    )
    parser.add_argument("--resolved", action="store_true", help=RESOLVED_HELP)
    parser.add_argument("--data", type=Path, required=True, help="what the checkpoints were trained on")
    parser.add_argument("--validation", type=Path, help="their held-out set, where they had one")
    data_arguments.add_arguments(parser, validation=True)
    parser.add_argument("--models", type=Path, action="append", default=[], help="folder of base models")
    parser.add_argument("--cache", type=Path, help="shared caches; default: inside --out")
    parser.add_argument("--out", type=Path, required=True)


def run(args: argparse.Namespace, bundled: Path, hooks: Hooks) -> OutcomeEvent:
    """Analyse as the arguments say.

    Raises:
        TaskError: `invalid_checkpoint` for a wrong `--checkpoint`, or the analysis' own.
    """
    config = read_config_file(ChainOfForgetting, args.config, resolved=args.resolved)
    checkpoints = _named(args.checkpoint)
    models = [*args.models, bundled]
    if not args.resolved:
        config = resolve_analysis(config, find_card(config.model, models))

    with uncollected():
        from difftune_core.families.dit.analyse import analyse
        from difftune_core.families.preparation import Folders

    args.out.mkdir(parents=True, exist_ok=True)
    cache = args.cache or args.out / "cache"
    folders = Folders(
        data=args.data,
        validation=args.validation,
        models=models,
        cache=cache,
        out=args.out,
        about=about.about_of(args),
        data_options=data_arguments.options_of(args),
        validation_options=data_arguments.options_of(args, "validation"),
        data_validated=data_arguments.validated_of(args),
        validation_validated=data_arguments.validated_of(args, "validation"),
    )
    return analyse(config, checkpoints, folders, hooks)


def _named(given: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in given:
        name, is_named, folder = text.partition("=")
        if not (name and is_named and Path(folder).is_dir()):
            raise TaskError("invalid_checkpoint", f"--checkpoint {text}: not NAME=DIR of a folder", "checkpoint")
        if name in found:
            raise TaskError("invalid_checkpoint", f"--checkpoint {text}: the name is taken", "checkpoint")
        found[name] = Path(folder)
    if len(found) > MAX_CHECKPOINTS:
        raise TaskError("invalid_checkpoint", f"{len(found)} checkpoints; at most {MAX_CHECKPOINTS}", "checkpoint")
    return found
