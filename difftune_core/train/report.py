"""The report of a run: from history, references and samples to the page's input."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from difftune_core.checkpoint.state import TrainState
from difftune_core.config.figures import all_figures, default_metrics
from difftune_core.config.reports.evaluation import Evaluation, Judged
from difftune_core.data.copies import Copies
from difftune_core.evaluate.best import best_evaluation, stopped_early
from difftune_core.evaluate.copying import has_begun
from difftune_core.evaluate.report import write_report
from difftune_core.families.base import Delivered, Page, Task
from difftune_core.families.base_model import BaseModel
from difftune_core.families.preparation import Preparation
from difftune_core.hooks import LogEvent, MetricsEvent
from difftune_core.train.deliver import tell_shortcomings
from difftune_core.train.loop import Loop
from difftune_core.train.memory import memory_told

COPYING = "copying_begun"
"""Code of the warning that a model has begun to draw its training images."""


def figures_event(entry: Evaluation) -> MetricsEvent:
    """An evaluation as metrics."""
    known = [measured.key for measured in all_figures() if measured.is_along]
    distances = [name for name in entry.given() if name.startswith("fd_") and entry.has_own(f"{name}_se")]
    values = {f"eval_{name}": value for name in (*known, *distances) if (value := entry.value(name)) is not None}
    return MetricsEvent(step=entry.step, values=values | _of_guidance(entry))


def copying_event(entries: Sequence[Evaluation]) -> LogEvent | None:
    """A warning of the newest evaluation, where it is the first in which copying has begun."""
    *before, newest = entries
    if not has_begun(newest.part("copies_interval")) or any(has_begun(e.part("copies_interval")) for e in before):
        return None
    copies = newest.value("copies")
    assert copies is not None, "has an interval"
    message = (
        f"Copying has begun by step {newest.step}: {100 * copies:.0f} % of the generated images are nearer to a "
        "training image than to any of as many held-out ones, where 50 % is chance. From here on FID may rise: "
        "consider fewer steps, early_stopping, or deliver 'best'."
    )
    return LogEvent(level="warn", message=message, data={"code": COPYING, "step": newest.step, "copies": copies})


def _of_guidance(entry: Evaluation) -> dict[str, float]:
    """FID and KID, whose names are their metrics', under other guidances."""
    return {
        f"eval_{name}_guidance_{guidance}": value
        for guidance, found in entry.other_guidance.items()
        for name in default_metrics()
        if (value := found.value(name)) is not None
    }


def write_run_report(
    task: Task[Any], loop: Loop[Any], copies: Copies, references: Mapping[str, Judged], result: Delivered[Any]
) -> None:
    """Write `report.json`, `report.html` and `samples.png`."""
    state, preparation, judge = loop.state, task.preparation, task.judge
    target, held_out = task.rows
    page, out = task.page(result, state.history.evaluations), preparation.folders.out
    page.grids[0]["image"].save(out / "samples.png")
    write_report(
        {
            "about": preparation.folders.about.model_dump(exclude_defaults=True),
            **_job_of(loop, preparation),
            "model": _model(preparation.base, state),
            "dataset": {
                "num_train": len(target),
                "num_held_out": len(held_out),
                **asdict(copies),
                "digest": target.digest,
                **page.dataset,
            },
            "retention_set": preparation.retention_used,
            "curves": state.history.curves,
            "evaluations": state.history.evaluations,
            **page.sections,
            "delivered_step": result.step,
            "best": _best_of(loop),
            "shortcomings": tell_shortcomings(loop, result, references),
            "references": dict(references),
            "grids": [*page.grids, *_on_the_way(loop)],
            "recipe": judge.recipe() | page.recipe | {"weights": _weights_of(loop)},
            "environment": _environment(task, loop, page),
            "notes": [
                *copies.sentences(len(held_out), task.label),
                *_notes_of(loop, judge.extractors[0].id),
                *_notes_of_beginning(preparation),
                *page.notes,
            ],
        },
        out,
    )


def _on_the_way(loop: Loop[Any]) -> list[dict[str, Any]]:
    picture = None if loop.samples is None else loop.samples.picture()
    return [] if picture is None else [picture]


def _job_of(loop: Loop[Any], preparation: Preparation) -> dict[str, Any]:
    """The config as it may be submitted again, and the checkpoints that the run comes from, its beginning first."""
    beginning, config = preparation.beginning, loop.config.model_dump(mode="json")
    if beginning is None:
        return {"job": config, "lineage": []}
    lineage = [one.model_dump() for one in beginning.origin.lineage]
    return {"job": {**config, "model": lineage[0]["checkpoint"]}, "lineage": lineage}


def _notes_of_beginning(preparation: Preparation) -> list[str]:
    beginning, base = preparation.beginning, preparation.base.card.id
    if beginning is None:
        return []
    taken = f"Training began with the checkpoint {beginning.named}, of which the weight average was taken"
    of_base = f"What is retained, and forgetting, are of the base model {base}, not of the checkpoint"
    return [f"{taken}; optimizer and average began anew. {of_base}."]


def _model(base: BaseModel, state: TrainState[Any]) -> dict[str, Any]:
    return {
        **base.card.model_dump(mode="json"),
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "trainable_parameters": sum(p.numel() for p in state.trainable().values()),
    }


def _best_of(loop: Loop[Any]) -> dict[str, Any] | None:
    """Return which evaluation was the best, by what, and its value."""
    metric = loop.config.evaluation.best_metric
    best = best_evaluation(loop.state.history.evaluations, metric)
    return None if best is None else {"metric": metric, "step": best.step, "value": best.value(metric)}


def _weights_of(loop: Loop[Any]) -> str:
    """Name what is judged: the average over the steps, or with no decay, which averages nothing, the weights."""
    return "ema" if loop.config.method.hyperparameters.ema_decay else "raw"


def _environment(task: Task[Any], loop: Loop[Any], page: Page) -> dict[str, Any]:
    """Return what the run was made with."""
    judge, num_classes = task.judge, len(page.dataset.get("class_names", ()))
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(judge.device),
        "threads": torch.get_num_threads(),
        **judge.precision.told(),
        "memory": memory_told(task, loop, len(task.rows[0]), num_classes or None),
    }


def _notes_of(loop: Loop[Any], extractor_id: str) -> list[str]:
    """Sentences that a reader of the figures must know."""
    notes = []
    over = stopped_early(loop.state.history.evaluations, loop.config.evaluation)
    if over is not None and loop.state.step < loop.config.method.hyperparameters.max_steps:
        notes.append(over)
    if extractor_id.startswith("tiny"):
        notes.append(
            f"The feature extractor {extractor_id} is a small network of our own: "
            "these distances are not comparable with any published FID."
        )
    return notes
