"""The fake trainer with reports that can be compared; `compare` is the real command.

The plan's `fail` lists the (method, seed) whose training diverges, `report_without` fields that all reports lack. A
file `crash` in the data folder kills the next `compare`, and goes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import fake_trainer
from fake_trainer import Trainer
from PIL import Image

from difftune_core.files import file_info
from difftune_core.hooks import ArtifactEvent, OutcomeEvent


def report_of(config: dict[str, Any], steps: int) -> dict[str, Any]:
    kind, seed = config["method"]["type"], config["seed"]
    fid = {"supervised": 20.0, "diff_tuning": 14.0}[kind] + seed
    forgetting = {"null_fid": fid, "retention_loss": 0.5, "retention_loss_by_t": [0.5] * 10}
    entry = {"step": steps, "fid": fid, "kid": fid / 10, "forgetting": forgetting, "target_images": steps}
    recipe = {"feature_extractor": "tiny-features", "num_generated": 10, "sampling": {"guidance_scale": 1.5}}
    return {
        "job": config, "model": {"id": config["model"], "digest": "d"}, "dataset": {"num_train": 2, "digest": "e"},
        "curves": {}, "evaluations": [entry], "references": {}, "recipe": recipe, "notes": [],
    }  # fmt: skip


class ReportingTrainer(Trainer):
    def finish(self, step: int) -> OutcomeEvent:
        self.save(step)
        config = json.loads(self.args.config.read_text())
        if [config["method"]["type"], config["seed"]] in self.plan.get("fail", []):
            return OutcomeEvent(code="diverged", message="the loss is no number", step=step)
        report = report_of(config, step)
        for name in self.plan.get("report_without", []):
            del report[name]
        (self.args.out / "report.json").write_text(json.dumps(report))
        Image.new("RGB", (20, 10), (config["seed"], 0, 0)).save(self.args.out / "samples.png")
        for kind, name in (("report_json", "report.json"), ("samples", "samples.png")):
            file = file_info(self.args.out / name, self.args.out)
            self.hooks.emit(ArtifactEvent.model_validate({"kind": kind, "step": step, "file": file}))
        return OutcomeEvent(code="succeeded", step=step)


def compare() -> int:
    from difftune_core.__main__ import main

    out = Path(sys.argv[sys.argv.index("--out") + 1])
    crash = out.parents[2] / "crash"
    if crash.exists():
        crash.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return main()


if __name__ == "__main__":
    if sys.argv[1] == "compare":
        sys.exit(compare())
    fake_trainer.Trainer = ReportingTrainer  # type: ignore[misc]  # the module looks its name up when it runs
    fake_trainer.main()
