"""A trainer for the storm: the real protocol, files and checkpoints, a chain of digests in place of weights.

Step k's weights are the sha256 of step k - 1's and k, so the last checkpoint tells whether a step was left out, done
twice or done on something else. It starts in half a second, so that hundreds of jobs fit into a storm.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

from difftune_core.channel import PipeHooks
from difftune_core.checkpoint.manifest import MANIFEST, MODEL, RESUME, Manifest, checkpoint_name, newest_whole
from difftune_core.files import file_info, folder_aside
from difftune_core.hooks import (
    ArtifactEvent,
    CheckpointEvent,
    MetricsEvent,
    OutcomeEvent,
    PhaseEvent,
    ProgressEvent,
    ResumeEvent,
)

STEPS = 20
_STEP_S = 0.2
_EVERY = 5


def chain(steps: int) -> str:
    """Weights after so many steps."""
    weights = ""
    for step in range(1, steps + 1):
        weights = advanced(weights, step)
    return weights


def advanced(weights: str, step: int) -> str:
    """Take one step."""
    return hashlib.sha256(f"{weights} {step}".encode()).hexdigest()


def resumed_weights(folder: Path) -> str:
    """Return what a resume goes on from."""
    return (folder / RESUME).read_text(encoding="utf-8")


def train(out: Path, hooks: PipeHooks) -> OutcomeEvent:
    """Go on from the newest whole checkpoint, to the end or until asked to stop."""
    checkpoints = out / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    found = newest_whole(checkpoints)
    step, weights = (found[1].step, resumed_weights(found[0])) if found else (0, "")
    hooks.emit(PhaseEvent(phase="training"))
    if found:
        hooks.emit(ResumeEvent(step=step))
    while step < STEPS:
        stop = hooks.stop_requested()
        if stop is not None:
            _save(checkpoints, step, weights, hooks)
            return OutcomeEvent(code="paused" if stop == "pause" else "stopped", step=step)
        time.sleep(_STEP_S)
        step, weights = step + 1, advanced(weights, step + 1)
        hooks.emit(MetricsEvent(step=step, values={"train_loss": 1 / step}))
        hooks.emit(ProgressEvent(phase="training", done=step, total=STEPS))
        if step % _EVERY == 0:
            _save(checkpoints, step, weights, hooks)
    report = out / "report.json"
    report.write_text(json.dumps({"weights": weights}), encoding="utf-8")
    hooks.emit(ArtifactEvent(kind="report_json", step=step, file=file_info(report, out)))
    return OutcomeEvent(code="succeeded", step=step)


def validate(out: Path, hooks: PipeHooks) -> OutcomeEvent:
    """Find every data set good."""
    out.mkdir(parents=True, exist_ok=True)
    hooks.emit(PhaseEvent(phase="validating"))
    report = {"ok": True, "num_items": 2, "class_names": ["a"], "entries": 2, "accepted": 2, "rejected": 0}
    (out / "report.json").write_text(json.dumps({**report, "errors": [], "warnings": []}), encoding="utf-8")
    (out / "items.jsonl").write_text('{"path": "a/1.png"}\n', encoding="utf-8")
    for kind, name in (("items", "items.jsonl"), ("validation_report", "report.json")):
        hooks.emit(ArtifactEvent.model_validate({"kind": kind, "file": file_info(out / name, out)}))
    return OutcomeEvent(code="succeeded")


def _save(checkpoints: Path, step: int, weights: str, hooks: PipeHooks) -> None:
    final = checkpoints / checkpoint_name(step)
    if step == 0 or final.exists():
        return
    with folder_aside(final) as folder:
        for name in (MODEL, RESUME):
            (folder / name).write_text(weights, encoding="utf-8")
        files = [file_info(folder / name, folder) for name in (MODEL, RESUME)]
        manifest = Manifest(step=step, target_images=step, identity={}, envelope={}, history={}, files=files)
        (folder / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")
    files.append(file_info(final / MANIFEST, final))
    hooks.emit(CheckpointEvent(step=step, name=final.name, files=files, is_last=step == STEPS))


def main() -> None:
    """Do as `python -m difftune_core`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--events-fd", type=int)
    parser.add_argument("--commands-fd", type=int)
    args, _ = parser.parse_known_args()
    hooks = PipeHooks(args.events_fd, args.commands_fd)
    hooks.emit(train(args.out, hooks) if args.kind == "train" else validate(args.out, hooks))


if __name__ == "__main__":
    main()
