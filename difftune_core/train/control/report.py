"""The report of a ControlNet run: from history, references and samples to the page's input."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from difftune_core.config.control import CONTROL_METRICS
from difftune_core.evaluate.best import is_higher_better
from difftune_core.evaluate.control_judge import ControlJudge
from difftune_core.evaluate.convergence import Convergence, sudden_convergence
from difftune_core.evaluate.grids import image_grid, scale_for
from difftune_core.evaluate.report import write_report
from difftune_core.evaluate.report.pictured import FOLLOWING
from difftune_core.interruption import after
from difftune_core.train.deliver import Delivered, tell_shortcomings
from difftune_core.train.report import best_of, environment, notes_of, weights_of

if TYPE_CHECKING:
    from difftune_core.train.control.run import ControlRun

_SHOWN = 8  # validation rows in a grid


def convergence_of(run: ControlRun) -> Convergence:
    """The step of sudden convergence, by the run's evaluations up to now."""
    metric = CONTROL_METRICS[run.preparation.control.condition]
    entries = run.loop.state.history.evaluations
    steps, scores = [entry["step"] for entry in entries], [entry[metric] for entry in entries]
    return sudden_convergence(steps, scores, higher_is_better=is_higher_better(metric))


def write_control_report(run: ControlRun, references: dict[str, Any], out: Path, result: Delivered[nn.Module]) -> None:
    """Write `report.json`, `report.html` and `samples.png`."""
    state, judge, preparation = run.loop.state, run.judge(), run.preparation
    grids = _grids(run, result.model)
    grids[0]["image"].save(out / "samples.png")
    write_report(
        {
            "about": preparation.folders.about.model_dump(exclude_defaults=True),
            "job": run.loop.config.model_dump(mode="json"),
            "model": {
                **judge.base.card.model_dump(mode="json"),
                "parameters": sum(p.numel() for p in state.model.parameters()),
                "trainable_parameters": sum(p.numel() for p in state.trainable().values()),
            },
            "dataset": _dataset(run),
            "retention_set": preparation.retention_used,
            "curves": state.history.curves,
            "evaluations": state.history.evaluations,
            "convergence": asdict(convergence_of(run)),
            "delivered_step": result.step,
            "best": best_of(run.loop),
            "shortcomings": tell_shortcomings(run.loop, result, references),
            "references": references,
            "grids": grids,
            "recipe": judge.recipe() | {"annotator": preparation.drawn_by, "weights": weights_of(run.loop)},
            "environment": environment(judge.device),
            "notes": [
                *run.copies.sentences(len(run.held_out), "caption"),
                *notes_of(run.loop, judge.extractors[0].id),
                *_cut_captions(judge),
            ],
        },
        out,
    )


def _dataset(run: ControlRun) -> dict[str, Any]:
    return {
        "num_train": len(run.target),
        "num_held_out": len(run.held_out),
        **asdict(run.copies),
        "num_captions": len(set(run.target.captions)),
        "num_truncated_captions": run.texts.num_truncated,
        "controls": "given" if run.target.controls is not None else "drawn",
        "digest": run.target.digest,
    }


def _cut_captions(judge: ControlJudge) -> list[str]:
    count = 0 if judge.clip is None else judge.clip.num_truncated(judge.captions[: judge.num_validation])
    told = f"{count} validation captions are longer than the CLIP model takes; it does not see their ends."
    return [told] if count else []


def _grids(run: ControlRun, controlnet: nn.Module) -> list[dict[str, Any]]:
    """Control, result, the control drawn anew, and the held-out image: a row each."""
    judge = run.judge()
    count = min(_SHOWN, judge.num_validation)
    rows = torch.arange(count)
    progress = run.preparation.progress("exporting", 2 * count)
    images = judge.draw(controlnet, rows, progress)
    empty = judge.remembered(controlnet, count, after(count, progress))
    strips = [judge.controls(count), images, judge.annotate(images), judge.real[:count]]
    scale = scale_for(count, images.shape[1])
    following = image_grid(np.concatenate(strips), count, scale)
    left = image_grid(np.concatenate([judge.source_images[:count], empty]), count, scale)
    return [
        {
            "title": "How results follow their controls",
            "image": following,
            "rows": FOLLOWING,
            "note": f"one of the first {count} validation rows a column; drawn anew: the control of the result",
        },
        {
            "title": "What is left of the base model",
            "image": left,
            "rows": ["base model", "empty control"],
            "note": "one noise a column",
        },
    ]
