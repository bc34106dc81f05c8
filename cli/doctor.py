"""`difftune doctor`: what keeps jobs from running here, in words."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from api import __version__
from api.findings import Finding, bad, good, poor
from cli.settings import EmbeddedDataDir, read_settings
from difftune.extras import lacking

_SHOWN = ("fastapi", "celery", "SQLAlchemy", "boto3", "torch", "diffusers")
_SERVICE = "api.doctor"
_EXAMINATIONS = (("database", "migrations.run", "examine"), ("service", _SERVICE))
_TIMEOUT_S = 300.0
_SIGNS = {"good": "  ok ", "poor": " note", "bad": "WRONG"}
_DEVICES = "devices"
Every = Annotated[bool, typer.Option("--all", help="Look for every object that rows name, not for some.")]
AsJson = Annotated[bool, typer.Option("--json", help="A JSON line a finding.")]


def doctor(data_dir: EmbeddedDataDir = None, as_json: AsJson = False, every: Every = False) -> None:
    """Look at database, broker, object store, clock, disk, GPUs, base models, key files and versions.

    Run it where the service or a worker runs, with its settings. Ends with status 1 if something is wrong.
    """
    folder = read_settings(data_dir).data_dir.expanduser().resolve()
    wrong = 0
    for finding in _findings({**os.environ, "DIFFTUNE_DATA_DIR": str(folder)}, every=every):
        wrong += finding.state == "bad"
        typer.echo(finding.model_dump_json() if as_json else _line(finding))
    if wrong:
        raise typer.Exit(1)


def _findings(environment: Mapping[str, str], *, every: bool) -> Iterator[Finding]:
    yield good("versions", ", ".join([f"difftune {__version__}", f"Python {platform.python_version()}", *_versions()]))
    if lacking("api"):
        advice = "Where the service or a worker runs: pip install 'difftune[api]'."
        yield poor("service", "its packages are not installed here: this machine only asks services", advice)
    for check, *module in () if lacking("api") else _EXAMINATIONS:
        options = ["--all"] if every and module == [_SERVICE] else []
        yield from _examine(check, [*module, *options], environment, timeout_s=None if options else _TIMEOUT_S)
    yield from _devices()


def _versions() -> Iterator[str]:
    for name in _SHOWN:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue


def _examine(
    check: str, module: list[str], environment: Mapping[str, str], *, timeout_s: float | None
) -> Iterator[Finding]:
    """Examine in a process of its own: the command line loads neither a database nor a trainer."""
    status, out, err = _run(module, environment, timeout_s)
    for line in out.splitlines():
        try:
            yield Finding.model_validate_json(line)
        except ValidationError:
            yield poor(check, line)
    if status:
        yield bad(check, f"the examination broke off: {err.strip().splitlines()[-1] if err.strip() else status}")


def _devices() -> Iterator[Finding]:
    try:
        version("torch")
    except PackageNotFoundError:
        yield good(_DEVICES, "torch is not installed here: jobs run on other machines")
        return
    status, out, err = _run(["difftune_core", "devices"], os.environ)
    if status:
        yield bad(_DEVICES, f"torch does not start: {err.strip().splitlines()[-1] if err.strip() else status}")
        return
    found = json.loads(out)
    if not found["gpus"]:
        yield _no_gpu(found)
    for gpu in found["gpus"]:
        memory = f"{gpu['free'] / 2**30:.1f} of {gpu['total'] / 2**30:.1f} GiB free"
        yield (
            bad(_DEVICES, f"{gpu['name']}: {gpu['fault']}")
            if gpu["fault"]
            else good(_DEVICES, f"{gpu['name']}, {memory}, computes")
        )


def _no_gpu(found: dict[str, Any]) -> Finding:
    cores = f"jobs train on {found['cores']} CPU core(s)"
    if found["cuda"]:
        advice = "Is the driver there, and the container started with GPUs?"
        return poor(_DEVICES, f"torch {found['torch']} is built for CUDA and sees no GPU: {cores}", advice)
    return good(_DEVICES, f"torch {found['torch']} for the CPU: {cores}")


def _run(
    module: list[str], environment: Mapping[str, str], timeout_s: float | None = _TIMEOUT_S
) -> tuple[int, str, str]:
    argv = [sys.executable, "-m", *module]
    try:
        done = subprocess.run(  # noqa: S603  # ours
            argv, env=environment, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return 1, "", f"no answer within {_TIMEOUT_S:.0f} s"
    return done.returncode, done.stdout, done.stderr


def _line(finding: Finding) -> str:
    advice = f"\n{'':20}{finding.advice}" if finding.advice and finding.state != "good" else ""
    return f"{_SIGNS[finding.state]}  {finding.check:12} {finding.message}{advice}"
