"""The finished runs of a comparison, and whether their figures may stand side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from difftune_core.config.comparison import MAX_METHODS, MAX_SEEDS, ComparisonConfig, MissingRun
from difftune_core.config.reports.evaluation import Evaluation, Judged
from difftune_core.config.reports.record import changed
from difftune_core.config.reports.run import SCHEMA_VERSION, RunReport
from difftune_core.hooks import TaskError

REPORT, SAMPLES = "report.json", "samples.png"
_FIRST = "supervised"  # what others are compared with, where nobody says in which order
_OF_A_SEED = frozenset({"recipe.reference_set_digest", "recipe.num_real", "dataset.digest"})
"""Parts that may differ between seeds: without a validation file, the seed draws the held-out images."""
_WEIGHTS = "weights"  # `ema` or `raw` is the method's own; older reports say `ema` of both
_OF_CONTROL = ("condition", "default_prompt")
"""What of a job's `control` its figures depend on; annotator and scale are in the recipe."""


@dataclass(frozen=True)
class FinishedRun:
    """One run's report."""

    method: str
    seed: int
    report: RunReport
    samples: Path | None
    """The grid of the run's samples."""

    @cached_property
    def result(self) -> Evaluation:
        """The evaluation of the checkpoint that the run delivers: the last one, or the best where that was asked for.

        Of a ControlNet with `convergence`, what the rule of sudden convergence found in the whole run.
        """
        delivered = self.report.result
        assert delivered is not None, "a whole report has evaluations"
        return changed(delivered, convergence=self.report.convergence) if self.controlled else delivered

    @property
    def controlled(self) -> bool:
        """Whether the run is of a ControlNet."""
        return self.report.convergence is not None

    @property
    def name(self) -> str:
        """What messages call the run."""
        return f"{self.method} (seed {self.seed})"


def discovered(data: Path) -> ComparisonConfig:
    """Methods and seeds by the folders that have a report, `METHOD/SEED/report.json`.

    Raises:
        TaskError: `too_few_runs`, fewer than two methods are there; `invalid_config`, names or counts cannot be.
    """
    found = [path.parent for path in sorted(data.glob(f"*/*/{REPORT}")) if path.parent.name.isdecimal()]
    methods = sorted({path.parent.name for path in found}, key=lambda name: (name != _FIRST, name))
    seeds = sorted({int(path.name) for path in found})
    if len(methods) < 2:  # noqa: PLR2004  one method has nothing to be compared with
        there = f"{data} has reports of {', '.join(methods) or 'no method'}"
        raise TaskError("too_few_runs", f"{there}; a comparison needs two: METHOD/SEED/{REPORT}.", "data")
    try:
        return ComparisonConfig(methods=methods, seeds=seeds)
    except ValidationError as error:
        limits = f"at most {MAX_METHODS} methods and {MAX_SEEDS} seeds"
        message = f"{data}: {error.errors()[0]['msg']} ({limits}; names of letters, digits and . _ = + -)"
        raise TaskError("invalid_config", message, "data") from None


def load_runs(config: ComparisonConfig, data: Path) -> tuple[list[FinishedRun], list[MissingRun]]:
    """The runs under `data` in the order of the config's methods and seeds, and those that are missing.

    Raises:
        TaskError: `damaged_report`, `report_of_newer_version`, `recipes_differ`, or `too_few_runs`: no two methods have
            a seed in common.
    """
    reasons = {(run.method, run.seed): run.reason for run in config.missing}
    runs, missing = [], []
    for method in config.methods:
        for seed in config.seeds:
            folder = data / method / str(seed)
            reason = reasons.get((method, seed))
            if reason is None and (folder / REPORT).is_file():
                runs.append(_load(folder, method, seed))
            else:
                missing.append(MissingRun(method=method, seed=seed, reason=reason or "there is no report"))
    if not paired_seeds(runs):
        message = "No two methods have a finished run of the same seed: there is nothing to compare."
        raise TaskError("too_few_runs", message)
    check_recipes(runs)
    return runs, missing


def paired_seeds(runs: list[FinishedRun]) -> list[int]:
    """Seeds of which at least two methods have a run."""
    seeds = [run.seed for run in runs]
    return sorted({seed for seed in seeds if seeds.count(seed) > 1})


def check_recipes(runs: list[FinishedRun]) -> None:
    """Refuse figures that were made differently.

    Raises:
        TaskError: `recipes_differ`, naming the field and both runs.
    """
    of_seed = {run.seed: run for run in reversed(runs)}
    for run in runs:
        for other, is_same_seed in ((runs[0], run.seed == runs[0].seed), (of_seed[run.seed], True)):
            ours, theirs = dict(_recipe(run.report)), dict(_recipe(other.report))
            for field in {**theirs, **ours}:
                if ours.get(field) != theirs.get(field) and (is_same_seed or field not in _OF_A_SEED):
                    values = f"{field} is {ours.get(field)!r} and {theirs.get(field)!r}"
                    message = f"The reports of {run.name} and {other.name} cannot be compared: {values}."
                    raise TaskError("recipes_differ", message, field)


def _load(folder: Path, method: str, seed: int) -> FinishedRun:
    path = folder / REPORT
    try:
        content = json.loads(path.read_bytes())
        _check_version(content, f"{method}/{seed}/{REPORT}")
        report = RunReport.model_validate(content)
    except ValueError:
        report = RunReport()
    # A ControlNet's images are judged by FID once, of what is delivered; a family need not measure forgetting.
    judged = report.evaluations if report.convergence is None else [report.result or Judged()]
    has_figures = all(entry.has_own("fid") for entry in judged)
    if not (report.evaluations and has_figures and "recipe" in report.given()):
        raise TaskError("damaged_report", f"{method}/{seed}/{REPORT} is no whole report of a run.", "data")
    samples = folder / SAMPLES
    return FinishedRun(method, seed, report, samples if samples.is_file() else None)


def _check_version(content: Any, name: str) -> None:
    version = content.get("schema_version", SCHEMA_VERSION) if isinstance(content, dict) else SCHEMA_VERSION
    if isinstance(version, int) and version > SCHEMA_VERSION:
        message = f"{name} is of schema version {version}; this version reads {SCHEMA_VERSION}: upgrade this one."
        raise TaskError("report_of_newer_version", message, "data")


def _recipe(report: RunReport) -> Iterator[tuple[str, Any]]:
    """Return everything on which a figure depends besides the tuned weights, by dotted name."""
    told = report.recipe.model_dump(mode="json")
    yield from _flat("recipe", {key: value for key, value in told.items() if key != _WEIGHTS})
    control = report.job.get("control") or {}
    yield from ((f"control.{name}", control[name]) for name in _OF_CONTROL if name in control)
    yield "model.digest", report.model.get("digest")
    yield "dataset.digest", report.dataset.digest


def _flat(prefix: str, values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}.{key}", value)
        else:
            yield f"{prefix}.{key}", value
