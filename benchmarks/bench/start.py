"""A trainer's start, from the command to its first event, beside `import torch`; its base model needs no diffusers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.harness.blocks import Side, alternate
from benchmarks.harness.claims import Bar, Claim, Guard, share
from benchmarks.scale.data import write_images

BAR = Bar(at_most=1.5)
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
_LIBRARIES = ("diffusers", "transformers", "peft")


def measured(folder: Path) -> list[Claim]:
    """Time both; a trainer must have come to its first phase without those libraries."""
    data, config = write_images(folder / "images.zip", 20), folder / "config.json"
    config.write_text(json.dumps({"model": "tiny-dit", "method": {"type": "supervised"}}), encoding="utf-8")
    arguments = ["train", str(config), "--data", str(data), "--out", str(folder / "out")]
    compared = alternate(
        Side("import torch", lambda: _run("-c", "import torch")),
        Side("a trainer's first event", lambda: started(arguments)),
        blocks=7,
        block_s=0.0,
    )
    event = started(arguments)
    loaded = _loaded_by_a_trainer()
    guard = Guard(
        f"the first event is a phase, and {', '.join(_LIBRARIES)} are not loaded",
        event.get("type") == "phase" and not loaded,
        {"first_event": event, "loaded": loaded},
    )
    return [share("start", compared, bar=BAR, guard=guard)]


def started(arguments: list[str]) -> dict[str, object]:
    """Start a trainer, and end it at its first event; the event."""
    told, pipe = os.pipe()
    ordered, orders = os.pipe()
    command = [
        sys.executable,
        "-m",
        "difftune_core",
        *arguments,
        "--events-fd",
        str(pipe),
        "--commands-fd",
        str(ordered),
    ]
    with subprocess.Popen(command, pass_fds=(pipe, ordered), env=os.environ | _ONE_THREAD) as process:
        for descriptor in (pipe, ordered):
            os.close(descriptor)
        with os.fdopen(told, encoding="utf-8") as events:
            line = events.readline()
            process.kill()
    os.close(orders)
    found: dict[str, object] = json.loads(line)
    return found


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, env=os.environ | _ONE_THREAD)


def _loaded_by_a_trainer() -> list[str]:
    code = f"import sys, difftune_core.train.run; print(*[m for m in {_LIBRARIES!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.split()
