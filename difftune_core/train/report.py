"""The report of a run: from history, references and samples to the page's input."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from difftune_core.config.figures import all_figures, default_metrics
from difftune_core.evaluate.best import best_evaluation, figure, stopped_early
from difftune_core.evaluate.classes import told_of_classes
from difftune_core.evaluate.grids import by_class, image_grid, scale_for
from difftune_core.evaluate.judge import Judge
from difftune_core.evaluate.report import write_report
from difftune_core.evaluate.report.pictured import PICTURED, one_a_column
from difftune_core.hooks import MetricsEvent
from difftune_core.interruption import after
from difftune_core.models.dit import DiT
from difftune_core.models.transfer import told_of_rows
from difftune_core.train.deliver import Delivered, tell_shortcomings
from difftune_core.train.loop import Loop

if TYPE_CHECKING:
    from difftune_core.train.run import Run

_ROWS = 8  # images of each class in a grid


def figures_event(entry: dict[str, Any]) -> MetricsEvent:
    """An evaluation as metrics."""
    known = [measured.key for measured in all_figures() if measured.is_along]
    distances = [name for name in entry if name.startswith("fd_") and f"{name}_se" in entry]
    values = {f"eval_{name}": value for name in (*known, *distances) if (value := figure(entry, name)) is not None}
    return MetricsEvent(step=entry["step"], values=values)


def other_guidance_event(entry: dict[str, Any]) -> MetricsEvent:
    """FID and KID, whose names are their metrics', under other guidances as metrics."""
    return MetricsEvent(
        step=entry["step"],
        values={
            f"eval_{name}_guidance_{guidance}": value
            for guidance, found in entry["other_guidance"].items()
            for name in default_metrics()
            if (value := figure(found, name)) is not None
        },
    )


def write_run_report(run: Run, judge: Judge, references: dict[str, Any], out: Path, result: Delivered[DiT]) -> None:
    """Write `report.json`, `report.html` and `samples.png`."""
    state = run.loop.state
    grids = _grids(run, judge, result.model)
    grids[0]["image"].save(out / "samples.png")
    write_report(
        {
            "about": run.preparation.folders.about.model_dump(exclude_defaults=True),
            "job": run.loop.config.model_dump(mode="json"),
            "model": {
                **judge.base.card.model_dump(mode="json"),
                "parameters": sum(p.numel() for p in state.model.parameters()),
                "trainable_parameters": sum(p.numel() for p in state.trainable().values()),
            },
            "dataset": {
                "class_names": run.class_names,
                "num_train": len(run.target.labels),
                "num_held_out": len(run.held_out.labels),
                **asdict(run.copies),
                "digest": run.target.digest,
            },
            "retention_set": run.preparation.retention_used,
            "curves": state.history.curves,
            "evaluations": state.history.evaluations,
            "delivered_step": result.step,
            "best": best_of(run.loop),
            "shortcomings": tell_shortcomings(run.loop, result, references),
            "references": references,
            "grids": grids,
            "recipe": judge.recipe() | {"weights": weights_of(run.loop)},
            "environment": environment(judge.device),
            "notes": [
                *run.copies.sentences(len(run.held_out), "class"),
                *notes_of(run.loop, judge.extractor.id),
                *_of_classes(run, judge, result.model),
                _of_label_rows(run),
            ],
        },
        out,
    )


def _of_label_rows(run: Run) -> str:
    rule = run.loop.config.method.hyperparameters.label_rows
    return told_of_rows(len(run.class_names), run.preparation.base.card.num_classes, rule)


def _of_classes(run: Run, judge: Judge, model: DiT) -> list[str]:
    return told_of_classes(judge.labels(model), judge.real_labels, run.class_names)


def best_of(loop: Loop[Any]) -> dict[str, Any] | None:
    """Which evaluation was the best, by what, and its value."""
    metric = loop.config.evaluation.best_metric
    best = best_evaluation(loop.state.history.evaluations, metric)
    return None if best is None else {"metric": metric, "step": best["step"], "value": figure(best, metric)}


def weights_of(loop: Loop[Any]) -> str:
    """What is judged: the average over the steps, or with no decay, which averages nothing, the weights themselves."""
    return "ema" if loop.config.method.hyperparameters.ema_decay else "raw"


def environment(device: torch.device) -> dict[str, Any]:
    """What the run was made with."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }


def notes_of(loop: Loop[Any], extractor_id: str) -> list[str]:
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


def _grids(run: Run, judge: Judge, model: DiT) -> list[dict[str, Any]]:
    model = model.to(judge.device)
    classes = min(model.config.num_classes, PICTURED)
    labels = torch.arange(classes).repeat(_ROWS)
    null = torch.full((classes * _ROWS // 2,), model.null_label)
    progress = run.preparation.progress("exporting", len(labels) + len(null))
    samples = judge.draw(model, labels, progress)
    remembered = judge.draw(model, null, after(len(labels), progress))
    scale = scale_for(classes, samples.shape[1])
    real = by_class(run.held_out.pixels, run.held_out.labels.tolist(), classes, _ROWS, scale)
    columns = {"columns": list(run.class_names[:classes]), "note": one_a_column(len(run.class_names))}
    count = len(remembered)
    return [
        {"title": "Samples of the tuned model", "image": image_grid(samples, classes, scale), **columns},
        *([{"title": "Held-out images", "image": real, **columns}] if real is not None else []),
        {"title": "Null branch of the tuned model", "image": image_grid(remembered, classes, scale)},
        {"title": "Images of the base model", "image": image_grid(judge.source[:count], classes, scale)},
    ]
