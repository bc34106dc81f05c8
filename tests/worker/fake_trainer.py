"""A real child process that speaks the trainer's protocol. Its data file says, in JSON, how it behaves."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from difftune_core.channel import PipeHooks
from difftune_core.checkpoint.manifest import MANIFEST, MODEL, RESUME, Manifest, checkpoint_name, newest_whole
from difftune_core.files import file_info, folder_aside
from difftune_core.hooks import (
    ArtifactEvent,
    BestEvent,
    CheckpointEvent,
    Hooks,
    LogEvent,
    MetricsEvent,
    OutcomeEvent,
    PhaseEvent,
    ProgressEvent,
    ResumeEvent,
    SampleEvent,
)
from difftune_core.tracing import traced


class Trainer:
    def __init__(self, args: argparse.Namespace, hooks: Hooks, plan: dict[str, Any]) -> None:
        self.args, self.hooks, self.plan = args, hooks, plan
        self.checkpoints = args.out / "checkpoints"
        self.checkpoints.mkdir(parents=True, exist_ok=True)

    def run(self) -> OutcomeEvent:
        found = newest_whole(self.checkpoints)
        step = first = found[1].step if found else 0
        saves = 0
        (self.args.out / "starts").open("a").write(f"{first}\n")
        self.hooks.emit(PhaseEvent(phase="training"))
        if found:
            self.hooks.emit(ResumeEvent(step=first, changed=self.plan.get("changed", [])))
        while step < self.plan["steps"]:
            stop = self.hooks.stop_requested()
            if stop and not self.plan.get("ignore_stop"):
                self.save(step)
                return OutcomeEvent(code="paused" if stop == "pause" else "stopped", step=step)
            time.sleep(self.plan.get("step_s", 0.01))
            step += 1
            self.misbehave(step)
            self.hooks.emit(MetricsEvent(step=step, values={"train_loss": 1 / step}))
            self.hooks.emit(ProgressEvent(phase="training", done=step, total=self.plan["steps"]))
            if step in self.plan.get("sample_at", []):
                self.draw(step)
            if step % self.plan.get("every", 5) == 0:
                self.save(step)
                if step in self.plan.get("best_at", []):
                    self.hooks.emit(BestEvent(step=step, metric="fid", value=100.0 - step))
                saves += 1
                if saves == self.plan.get("die_after_saves"):
                    time.sleep(0.3)
                    os.kill(os.getpid(), signal.SIGKILL)
        return self.finish(step)

    def misbehave(self, step: int) -> None:
        if self.plan.get("kill_at") == step:
            os.kill(os.getpid(), signal.SIGKILL)
        once = self.args.out / "died"
        if self.plan.get("kill_once_at") == step and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.plan.get("print_at") == step:
            sys.stdout.write(self.plan["print"].format(folder=Path.cwd()))
        if self.plan.get("stall_at") == step:
            while True:  # alive, and saying the same again and again
                self.hooks.emit(LogEvent(message="still here"))
                time.sleep(0.05)
        if self.plan.get("hoard_at") == step:
            hoard = bytearray(self.plan["hoard_bytes"])
            hoard[::4096] = b"x" * len(range(0, len(hoard), 4096))
            time.sleep(60)
        if self.plan.get("junk_at") == step:
            lines = [b"no json", b'{"type":"hologram","v":1}', b"\xff\xfe", b"[1]", b'{"v":2,"type":"phase"}', b""]
            os.write(self.args.events_fd, b"\n".join(lines))
        if self.plan.get("grandchild_at") == step:
            fds = (self.args.events_fd,)
            process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=fds)
            (self.args.out / "grandchild").write_text(str(process.pid))

    def save(self, step: int) -> None:
        final = self.checkpoints / checkpoint_name(step)
        if step == 0 or final.exists():
            return
        with folder_aside(final) as folder:
            (folder / MODEL).write_text(f"average {step}")
            (folder / RESUME).write_text(f"state {step}")
            files = [file_info(folder / name, folder) for name in (MODEL, RESUME)]
            manifest = Manifest(step=step, target_images=32 * step, identity={}, envelope={}, history={}, files=files)
            (folder / MANIFEST).write_text(manifest.model_dump_json())
        files.append(file_info(final / MANIFEST, final))
        self.hooks.emit(
            CheckpointEvent(step=step, name=final.name, files=files, is_last=False, target_images=32 * step)
        )

    def draw(self, step: int) -> None:
        path = self.args.out / "samples" / f"step-{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"images {step}")
        self.hooks.emit(SampleEvent(step=step, num_images=4, file=file_info(path, self.args.out)))

    def finish(self, step: int) -> OutcomeEvent:
        if not self.plan.get("no_save"):
            self.save(step)
        if code := self.plan.get("outcome"):
            return OutcomeEvent(code=code, message=f"it {code}", param="method", step=step)
        seen = {"environment": dict(os.environ), "folder": str(Path.cwd()), "arguments": sys.argv}
        (self.args.out / "report.json").write_text(json.dumps(seen))
        self.hooks.emit(
            ArtifactEvent(kind="report_json", step=step, file=file_info(self.args.out / "report.json", self.args.out))
        )
        return OutcomeEvent(code="succeeded", step=step)


def validate(args: argparse.Namespace, hooks: Hooks, plan: dict[str, Any]) -> OutcomeEvent:
    args.out.mkdir(parents=True, exist_ok=True)
    hooks.emit(PhaseEvent(phase="validating"))
    sys.stdout.write(plan.get("print", ""))
    if plan.get("crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    errors = plan.get("errors", [])
    report = {"ok": not errors, "num_items": 2, "class_names": ["a"], "entries": 2, "accepted": 2, "rejected": 0}
    (args.out / "report.json").write_text(json.dumps({**report, "errors": errors, "warnings": []}))
    (args.out / "items.jsonl").write_text('{"path": "a/1.png"}\n')
    for kind, name in (("items", "items.jsonl"), ("validation_report", "report.json")):
        file = file_info(args.out / name, args.out)
        if plan.get("outside"):
            (args.out.parent / name).write_bytes((args.out / name).read_bytes())
            file = file.model_copy(update={"path": f"../{name}"})
        hooks.emit(ArtifactEvent.model_validate({"kind": kind, "file": file}))
    return OutcomeEvent(code="succeeded")


_OF_DATA = [f"{role}{part}" for role in ("data", "validation") for part in ("", "-options", "-validated")]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("config", type=Path)
    for name in ("about", "models", "cache", "out", *_OF_DATA):
        parser.add_argument(f"--{name}", type=Path, action="append" if name == "models" else "store")
    parser.add_argument("--resolved", action="store_true")
    parser.add_argument("--events-fd", type=int)
    parser.add_argument("--commands-fd", type=int)
    args = parser.parse_args()
    hooks = traced(PipeHooks(args.events_fd, args.commands_fd), args.kind, os.environ)
    plan = json.loads(args.data.read_text())
    outcome = Trainer(args, hooks, plan).run() if args.kind == "train" else validate(args, hooks, plan)
    if not plan.get("silent"):
        hooks.emit(outcome)


if __name__ == "__main__":
    main()
