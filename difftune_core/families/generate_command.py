"""`python -m difftune_core generate`: images of a base model or a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from difftune_core.config.generation import GenerationConfig
from difftune_core.config.stored import RESOLVED_HELP, read_config_file
from difftune_core.hooks import Hooks, OutcomeEvent
from difftune_core.runtime.imports import uncollected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("config", type=Path, help="what to draw, JSON")
    parser.add_argument("--resolved", action="store_true", help=RESOLVED_HELP)
    parser.add_argument("--checkpoint", type=Path, help="folder of a checkpoint, which draws in place of the model")
    parser.add_argument("--control", type=Path, help="image that a ControlNet follows")
    parser.add_argument("--models", type=Path, action="append", default=[], help="folder of base models")
    parser.add_argument("--out", type=Path, required=True)


def run(args: argparse.Namespace, bundled: Path, hooks: Hooks) -> OutcomeEvent:
    """Run the command.

    Raises:
        TaskError: why not, as `generate`.
    """
    config = read_config_file(GenerationConfig, args.config, resolved=args.resolved)

    with uncollected():
        from difftune_core.families.generate import Inputs, generate

    args.out.mkdir(parents=True, exist_ok=True)
    inputs = Inputs([*args.models, bundled], args.checkpoint, args.control, args.out)
    return generate(config, inputs, hooks)
