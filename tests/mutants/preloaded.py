"""Runs pytest in forks of a process that has loaded the large libraries: loading them takes longer than most tests.

Each line of its input is one run: arguments of pytest, and a file for what it prints. It answers with the number of the
fork, which leads a group of its own, and at its end with the exit status (negative: the signal that ended it).
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import import_module
from typing import Any

_NO_RUN = 70
_LARGE = (
    *("torch", "transformers", "peft", "accelerate", "scipy.linalg", "cv2", "jinja2"),
    *("diffusers.models.autoencoders.autoencoder_kl", "diffusers.schedulers", "diffusers.pipelines.pipeline_utils"),
    *("fastapi", "sqlalchemy.orm", "celery", "boto3", "openai", "alembic.command", "typer", "uvicorn"),
)


def _run(request: dict[str, Any]) -> None:
    """Become the run, in a fork: never returns."""
    os.setsid()
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, target)
    code = _NO_RUN
    try:
        code = int(import_module("pytest").main(request["arguments"]))
    except BaseException:  # noqa: BLE001  nothing of a fork may go on in here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    """Answer requests until the input ends."""
    for name in _LARGE:
        import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        if (fork := os.fork()) == 0:
            _run(request)
        _answer(fork)
        _answer(os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]))


if __name__ == "__main__":
    main()
