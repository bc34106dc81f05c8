"""One run of a benchmark: its setting, its config, and what is kept of its report.

Every run of a target and seed trains on the same images in the same order with the same noise, is judged by the same
seeds, and differs from the others in its method alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from workbench.study.targets import target_archives

_DIFFFIT = {"adapter": {"type": "difffit"}, "learning_rate": 1e-2}  # ten times full fine-tuning's, as published
_LORA = {"adapter": {"type": "lora"}}
_RELEASED = {"recipe": "released"}

METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "supervised": ("supervised", "supervised", {}),
    **{
        weighting: (f"supervised, {title}", "supervised", {"loss_weighting": weighting})
        for weighting, title in (("p2", "P2"), ("min_snr", "Min-SNR"), ("psi", "ψ = t/T"))
    },
    "dogfit": ("DogFit", "diff_tuning", {"recipe": "dogfit"}),
    "algorithm1": ("Diff-Tuning (Algorithm 1)", "diff_tuning", {}),
    "released": ("Diff-Tuning (released code)", "diff_tuning", _RELEASED),
    "only_reconsolidation": ("only reconsolidation (ξ = 0)", "diff_tuning", {"components": "reconsolidation"}),
    "only_retention": ("only retention (ψ = 1)", "diff_tuning", {"components": "retention"}),
    "distillation": ("Diff-Tuning by distillation", "diff_tuning", {"recipe": "distillation"}),
    "difffit": ("DiffFit", "supervised", _DIFFFIT),
    "difffit_released": ("DiffFit + Diff-Tuning (released code)", "diff_tuning", {**_DIFFFIT, **_RELEASED}),
    "lora": ("LoRA", "supervised", _LORA),
    "lora_released": ("LoRA + Diff-Tuning (released code)", "diff_tuning", {**_LORA, **_RELEASED}),
    **{f"tau_{tau}": (f"Algorithm 1, τ = {tau}", "diff_tuning", {"tau": tau}) for tau in (0.1, 0.3, 0.5, 1.5)},
    **{
        f"retention_{count}": (
            f"Algorithm 1, {count} retention images",
            "diff_tuning",
            {"retention_set": {"num_images": count}},
        )
        for count in (30, 300)
    },
}
"""Title, type and changed hyper-parameters of each method, by name."""

_FIGURES = ("step", "fid", "fid_se", "kid", "target_images", "l2_from_base")
_FORGETTING = ("null_fid", "retention_loss", "retention_loss_by_t")
_DIGITS = 5


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What distinguishes one run from another."""

    target: str
    method: str
    seed: int
    images_per_class: int
    """Training images of each class."""
    steps: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    """Learning rate, unless the method states its own."""
    every_steps: int | None = None
    """Steps between evaluations; None evaluates the end only."""
    num_images: int = 500
    """Drawn for each evaluation."""
    num_inference_steps: int = 25
    """DDIM steps of an evaluation."""
    guidance_scale: float = 1.5
    other_guidance: tuple[str, ...] = ()
    """Guidances under which the final model is judged again."""
    model: str = "tiny-dit"

    @property
    def config(self) -> dict[str, Any]:
        """The transfer config."""
        _, kind, changes = METHODS[self.method]
        evaluation = ("every_steps", "num_images", "num_inference_steps", "guidance_scale", "other_guidance")
        hyperparameters = {
            "max_steps": self.steps,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "checkpoint_every_steps": self.steps,
            **changes,
        }
        return {
            "model": self.model,
            "seed": self.seed,
            "method": {"type": kind, kind: {"hyperparameters": hyperparameters}},
            "evaluation": {name: getattr(self, name) for name in evaluation},
            "num_threads": 1,
        }


@dataclass(frozen=True)
class Workplace:
    """Where runs are made."""

    folder: Path
    """Inputs, caches and runs; what is finished in it is taken up."""
    models: tuple[Path, ...] = ()
    """Roots of further base models."""

    def inputs(self, setting: Setting) -> tuple[Path, Path]:
        """Archives of training and held-out images."""
        place = self.folder / setting.target / f"input-{setting.images_per_class}-{setting.seed}"
        return target_archives(setting.target, place, setting.seed, per_class=setting.images_per_class)

    def run_folder(self, setting: Setting) -> Path:
        """Return the folder of the run's checkpoints and report."""
        digest = hashlib.sha256(json.dumps(setting.config).encode()).hexdigest()[:8]
        name = f"{setting.method}-{setting.images_per_class}-{setting.steps}-{setting.seed}-{digest}"
        return self.folder / setting.target / name

    def run(self, setting: Setting) -> dict[str, Any]:
        """Train and judge once, or take up what an earlier call has finished or begun; the run's record."""
        folder = self.run_folder(setting)
        folder.mkdir(parents=True, exist_ok=True)
        finished = folder / "report.json"
        if not finished.is_file():
            (folder / "config.json").write_text(json.dumps(setting.config), encoding="utf-8")
            self._train(folder, setting)
        return record(setting, json.loads(finished.read_text(encoding="utf-8")))

    def _train(self, folder: Path, setting: Setting) -> None:
        data, validation = self.inputs(setting)
        command = [sys.executable, "-m", "difftune_core", "train", str(folder / "config.json")]
        command += ["--data", str(data), "--validation", str(validation)]
        for root in self.models:
            command += ["--models", str(root)]
        command += ["--cache", str(self.folder / "cache"), "--out", str(folder)]
        with (folder / "log.txt").open("wb") as log:
            subprocess.run(
                command, check=True, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )


def record(setting: Setting, report: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a report: the setting, every evaluation's figures, the references', and what made them."""
    return {
        **json.loads(json.dumps(asdict(setting))),
        "evaluations": [figures(entry) for entry in report["evaluations"]],
        "references": {name: figures(entry) for name, entry in report["references"].items()},
        "made_by": made_by(),
    }


def figures(entry: dict[str, Any]) -> dict[str, Any]:
    """The figures of one evaluation, forgetting beside quality."""
    flat = {**entry, **entry.get("forgetting", {})}
    found = {name: _rounded(flat[name]) for name in (*_FIGURES, *_FORGETTING) if flat.get(name) is not None}
    others = entry.get("other_guidance", {})
    return found | ({"other_guidance": {name: figures(other) for name, other in others.items()}} if others else {})


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, _DIGITS) if isinstance(value, float) else value


@cache
def made_by() -> dict[str, str]:
    """Commit, torch and kind of processor."""
    return {
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip(),  # noqa: S607  # git is git
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, one thread a run",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


class Records:
    """Finished runs, in a file of one JSON object a line to which each run is added when it ends."""

    def __init__(self, path: Path | None) -> None:
        """Read what is there; without a path nothing is kept on disk."""
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
        self.runs: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def find(self, setting: Setting) -> dict[str, Any] | None:
        """The finished run of this setting."""
        wanted = json.loads(json.dumps(asdict(setting)))
        return next((run for run in self.runs if {name: run.get(name) for name in wanted} == wanted), None)

    def add(self, run: dict[str, Any]) -> None:
        """Keep a finished run."""
        self.runs.append(run)
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run, separators=(",", ":")) + "\n")


def run_missing(
    settings: list[Setting], place: Workplace, records: Records, *, at_once: int = 1, minutes: float = float("inf")
) -> None:
    """Run what `records` lacks, in this order, and keep each run when it ends; start none after `minutes`."""
    end = time.monotonic() + 60 * minutes

    def run(setting: Setting) -> dict[str, Any] | None:
        return place.run(setting) if time.monotonic() < end else None

    missing = [setting for setting in settings if records.find(setting) is None]
    pool = ThreadPoolExecutor(at_once)
    try:
        for done in as_completed([pool.submit(run, setting) for setting in missing]):
            finished = done.result()
            if finished is not None:
                records.add(finished)
                print(*(finished[name] for name in ("target", "method", "seed")), file=sys.stderr, flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
