"""`python -m difftune_core {train|validate|retain|evaluate|compare|import} ...`: every kind of work as a command.

By hand it prints progress; under a supervisor it speaks the protocol of `difftune_core.hooks` on two pipes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from difftune_core.channel import ConsoleHooks, PipeHooks
from difftune_core.config import about
from difftune_core.config.card import find_card
from difftune_core.config.comparison import ComparisonConfig
from difftune_core.config.figures import default_metrics, named_metrics, page
from difftune_core.config.reports.schema import REPORTS, json_schema
from difftune_core.config.resolution import resolve, resolve_retention_set
from difftune_core.config.retention import RetentionSetRequest
from difftune_core.config.stored import RESOLVED_HELP, read_config_file
from difftune_core.config.transfer import TransferConfig
from difftune_core.data import arguments as data_arguments
from difftune_core.failures import failure
from difftune_core.families import generate_command
from difftune_core.families.convert.request import add_arguments, request_of
from difftune_core.families.dit import analysis_command
from difftune_core.holding import holding
from difftune_core.hooks import Hooks, OutcomeEvent, TaskError
from difftune_core.runtime.imports import uncollected
from difftune_core.tracing import ORDERLY, traced

_BUNDLED = Path(__file__).parent / "weights"


def main() -> int:
    """Run one command; the exit status is 0 for success or an orderly stop, 1 for a failure."""
    args = _parser().parse_args()
    hooks: Hooks = ConsoleHooks() if args.events_fd is None else PipeHooks(args.events_fd, args.commands_fd)
    if isinstance(hooks, PipeHooks) and args.name == "serve":
        _serve(hooks)
    hooks = traced(hooks, args.name, os.environ)
    outcome = _guarded(args, hooks)
    hooks.emit(outcome)
    return 0 if outcome.code in ORDERLY else 1


def _serve(hooks: PipeHooks) -> NoReturn:
    """Carry out one request after the other, until the supervisor is gone: what is in memory stays there between."""
    while True:
        args = _parser().parse_args(hooks.next_work())
        hooks.emit(_guarded(args, hooks))


def _guarded(args: argparse.Namespace, hooks: Hooks) -> OutcomeEvent:
    try:
        with holding():
            outcome: OutcomeEvent = args.command(args, hooks)
    except Exception as error:  # noqa: BLE001  # the last line says why, whatever happened
        return failure(error, args.name)
    return outcome


def _require(args: argparse.Namespace, *options: str) -> None:
    for option in options:
        path: Path | None = getattr(args, option)
        if path is not None and not path.exists():
            raise TaskError("file_not_found", f"--{option}: there is no {path}", option)


def _train(args: argparse.Namespace, hooks: Hooks) -> OutcomeEvent:
    _require(args, "config", "data", "validation", "retention", "start")
    config = read_config_file(TransferConfig, args.config, resolved=args.resolved)
    roots = [*args.models, _BUNDLED]
    if not args.resolved:
        config = resolve(config, find_card(config.model, roots), num_threads=1)

    with uncollected():
        from difftune_core.families.preparation import Folders
        from difftune_core.train.run import train

    args.out.mkdir(parents=True, exist_ok=True)
    folders = Folders(
        data=args.data,
        validation=args.validation,
        models=roots,
        cache=args.cache or args.out / "cache",
        out=args.out,
        retention=args.retention,
        about=about.about_of(args),
        data_options=data_arguments.options_of(args),
        validation_options=data_arguments.options_of(args, "validation"),
        data_validated=data_arguments.validated_of(args),
        validation_validated=data_arguments.validated_of(args, "validation"),
        start=args.start,
    )
    return train(config, folders, hooks)


def _retain(args: argparse.Namespace, hooks: Hooks) -> OutcomeEvent:
    _require(args, "config", "data")
    request = read_config_file(RetentionSetRequest, args.config, resolved=args.resolved)
    roots = [*args.models, _BUNDLED]
    if not args.resolved:
        settings = resolve_retention_set(request, find_card(request.model, roots))
        request = request.model_copy(update=dict(settings))

    with uncollected():
        from difftune_core.families.retain import retain

    args.out.mkdir(parents=True, exist_ok=True)
    cache = args.cache or args.out / "cache"
    options = data_arguments.options_of(args)
    return retain(request, data=args.data, options=options, models=roots, cache=cache, out=args.out, hooks=hooks)


def _validate(args: argparse.Namespace, hooks: Hooks) -> OutcomeEvent:
    with uncollected():
        from difftune_core.data.validate import validate

    args.out.mkdir(parents=True, exist_ok=True)
    validate(args.data, args.out, hooks, options=data_arguments.options_of(args))
    return OutcomeEvent(code="succeeded")


def _evaluate(args: argparse.Namespace, _hooks: Hooks) -> OutcomeEvent:
    with uncollected():
        from difftune_core.evaluate.folders import evaluate_folders
        from difftune_core.evaluate.report.write import plain

    _require(args, "real", "fake")
    named = args.features or [_BUNDLED / "tiny-features"]
    missing = next((path for path in named if not path.exists()), None)
    if missing is not None:
        raise TaskError("file_not_found", f"--features: there is no {missing}", "features")
    # The folder holds the weights and, where it is not the bundled kind, a card that says what they are.
    folders = [path.parent if path.is_file() else path for path in named]
    metrics = args.metrics.split(",")
    result = plain(evaluate_folders(args.real, args.fake, folders, metrics))
    print(json.dumps(result, allow_nan=False))  # noqa: T201  # the command's output
    return OutcomeEvent(code="succeeded")


def _compare(args: argparse.Namespace, hooks: Hooks) -> OutcomeEvent:
    with uncollected():
        from difftune_core.evaluate.comparison.build import compare_runs
        from difftune_core.evaluate.comparison.runs import discovered

    _require(args, "config", "data")
    given = None if args.config is None else ComparisonConfig.model_validate_json(args.config.read_bytes())
    args.out.mkdir(parents=True, exist_ok=True)
    return compare_runs(given or discovered(args.data), args.data, args.out, hooks, about.about_of(args))


def _analyse(args: argparse.Namespace, hooks: Hooks) -> OutcomeEvent:
    _require(args, "config", "data", "validation")
    return analysis_command.run(args, _BUNDLED, hooks)


def _import(args: argparse.Namespace, hooks: Hooks) -> OutcomeEvent:
    request = request_of(args)

    with uncollected():
        from difftune_core.families.install import install

    return install(request, hooks)


def _generate(args: argparse.Namespace, hooks: Hooks) -> OutcomeEvent:
    _require(args, "config", "checkpoint", "control")
    return generate_command.run(args, _BUNDLED, hooks)


def _devices(_args: argparse.Namespace, _hooks: Hooks) -> OutcomeEvent:
    with uncollected():
        from difftune_core.runtime.devices import examine

    print(json.dumps(examine()))  # noqa: T201  # the command's output
    return OutcomeEvent(code="succeeded")


def _figures(_args: argparse.Namespace, _hooks: Hooks) -> OutcomeEvent:
    print(page.table(), end="")  # noqa: T201  # the command's output
    return OutcomeEvent(code="succeeded")


def _schema(args: argparse.Namespace, _hooks: Hooks) -> OutcomeEvent:
    print(json_schema(args.report), end="")  # noqa: T201  # the command's output
    return OutcomeEvent(code="succeeded")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m difftune_core", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="name")
    _add_evaluate(commands.add_parser("evaluate", help="FID, KID and others between two sets of images, as JSON"))
    _add_answers(commands)
    for name, command in (("train", _train), ("validate", _validate), ("retain", _retain)):
        sub = commands.add_parser(name)
        sub.set_defaults(command=command)
        is_set = name == "retain"
        sub.add_argument("config", type=Path, help=f"{'settings and `model`' if is_set else 'transfer config'}, JSON")
        sub.add_argument(
            "--data", type=Path, required=not is_set, help="zip, tar or folder: class folders, or captioned images"
        )
        data_arguments.add_arguments(sub, validation=not is_set)
        if not is_set:
            sub.add_argument("--validation", type=Path, help="held-out set of the same form")
            sub.add_argument("--retention", type=Path, help="file that `retain` made, instead of sampling")
        if name == "train":
            sub.add_argument("--start", type=Path, help="folder of another run's checkpoint, to begin with its weights")
        if name != "validate":
            sub.add_argument("--resolved", action="store_true", help=RESOLVED_HELP)
        sub.add_argument("--models", type=Path, action="append", default=[], help="folder of base models")
        sub.add_argument("--cache", type=Path, help="shared caches; default: inside --out")
        sub.add_argument("--out", type=Path, required=True)
        _add_pipes(sub)
    comparing = commands.add_parser("compare", help="one report of finished runs of several methods and seeds")
    comparing.set_defaults(command=_compare)
    comparing.add_argument("config", type=Path, nargs="?", help="comparison config, JSON; default: all that is there")
    comparing.add_argument("--data", type=Path, required=True, help="folder of METHOD/SEED/report.json")
    comparing.add_argument("--out", type=Path, required=True)
    _add_pipes(comparing)
    _add_drawing(commands)
    importing = commands.add_parser("import", help="bring a base model in")
    importing.set_defaults(command=_import)
    add_arguments(importing)
    _add_pipes(importing)
    return parser


def _add_drawing(commands: Any) -> None:
    """Add what draws with models."""
    analysing = commands.add_parser("analyse", help="the chain of forgetting of tuned checkpoints")
    analysing.set_defaults(command=_analyse)
    analysis_command.add_arguments(analysing)
    _add_pipes(analysing)
    generating = commands.add_parser("generate", help="images of a base model or a checkpoint")
    generating.set_defaults(command=_generate)
    generate_command.add_arguments(generating)
    _add_pipes(generating)
    _add_pipes(commands.add_parser("serve", help="one request after the other, from a supervisor"))


def _add_answers(commands: Any) -> None:
    """Add what needs nothing and prints an answer."""
    for name, told, command in (
        ("devices", "torch and GPUs of this machine, tried out, as JSON", _devices),
        ("figures", "every figure that an evaluation can have, as a table in Markdown", _figures),
    ):
        commands.add_parser(name, help=told).set_defaults(command=command, events_fd=None)
    schema = commands.add_parser("schema", help="the JSON Schema of a report")
    schema.set_defaults(command=_schema, events_fd=None)
    schema.add_argument("report", choices=list(REPORTS), help="report.json, comparison.json or chain.json")


def _add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    evaluate.set_defaults(command=_evaluate, events_fd=None)
    evaluate.add_argument("--real", type=Path, required=True, help="folder or archive of reference images")
    evaluate.add_argument("--fake", type=Path, required=True, help="folder or archive of judged images")
    evaluate.add_argument(
        "--features", type=Path, action="append", help="feature extractor, may be repeated; default: tiny-features"
    )
    evaluate.add_argument(
        "--metrics",
        default=",".join(default_metrics()),
        help=f"some of {', '.join(name for name, m in named_metrics().items() if 'images' not in m.needs)}, "
        "with commas between",
    )


def _add_pipes(parser: argparse.ArgumentParser) -> None:
    about.add_argument(parser)
    parser.add_argument("--events-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--commands-fd", type=int, help=argparse.SUPPRESS)


if __name__ == "__main__":
    status = main()
    gc.freeze()  # the system takes the memory back: the interpreter need not look through it as it ends
    sys.exit(status)
