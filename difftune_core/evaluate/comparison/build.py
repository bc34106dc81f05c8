"""The joint report of finished runs: `comparison.json`, a page, and the samples side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from difftune_core.config.about import About
from difftune_core.config.comparison import ComparisonConfig, MissingRun
from difftune_core.config.figures import Figure
from difftune_core.config.reports.comparison import SCHEMA_VERSION, ComparisonReport
from difftune_core.data.copies import shared_sentence
from difftune_core.evaluate.comparison.convergence import convergences, steps_saved, steps_saved_to_equal_scores
from difftune_core.evaluate.comparison.figures import (
    Runs,
    along,
    at_equal_images,
    at_equal_steps,
    equal_images,
    references,
    retention_by_t,
    training_curve,
)
from difftune_core.evaluate.comparison.grids import Panel, panels, side_by_side
from difftune_core.evaluate.comparison.measured import figures_in
from difftune_core.evaluate.comparison.runs import FinishedRun, load_runs, paired_seeds
from difftune_core.evaluate.comparison.view import context
from difftune_core.evaluate.report.pictured import FOLLOWING, PICTURED, one_a_column
from difftune_core.evaluate.report.write import data_uri, plain, render, write_json
from difftune_core.files import file_info, write_durably
from difftune_core.hooks import ArtifactEvent, Hooks, OutcomeEvent, PhaseEvent

JSON_FILE, HTML_FILE, GRID_FILE = "comparison.json", "comparison.html", "comparison.png"
LOWER_IS_BETTER = {"lower": True, "higher": False, "neither": None}
_BUDGET = ("max_steps", "batch_size")


def compare_runs(
    config: ComparisonConfig, data: Path, out: Path, hooks: Hooks, about: About | None = None
) -> OutcomeEvent:
    """Read the runs under `data` (`METHOD/SEED/report.json`, `samples.png`) and write the joint report into `out`.

    Raises:
        TaskError: `damaged_report`, `recipes_differ`, `too_few_runs`.
    """
    hooks.emit(PhaseEvent(phase="evaluating"))
    runs, missing = load_runs(config, data)
    known = {} if about is None else about.model_dump(exclude_defaults=True)
    comparison = build(config, runs, missing, known)
    grids = panels(runs, list(comparison.paired_seeds))
    write_json(plain(comparison), out / JSON_FILE)
    write_durably(out / HTML_FILE, _page(comparison, grids).encode())
    files = {"report_json": JSON_FILE, "report_html": HTML_FILE}
    if grids:
        side_by_side(grids).save(out / GRID_FILE)
        files["samples"] = GRID_FILE
    for kind, name in files.items():
        hooks.emit(ArtifactEvent.model_validate({"kind": kind, "file": file_info(out / name, out)}))
    return OutcomeEvent(code="succeeded")


def build(
    config: ComparisonConfig, runs: list[FinishedRun], missing: list[MissingRun], about: dict[str, Any] | None = None
) -> ComparisonReport:
    """Put together what the runs tell; `about` says whose report it is."""
    by_method, first = Runs(config.methods, runs), runs[0].report
    told = {
        "about": about or {},
        "schema_version": SCHEMA_VERSION,
        "methods": [_method(by_method, name) for name in by_method.methods],
        "seeds": list(config.seeds),
        "paired_seeds": paired_seeds(runs),
        "missing": [run.model_dump() for run in missing],
        "shortcomings": [
            {"method": run.method, "seed": run.seed, **told.given()} for run in runs for told in run.report.shortcomings
        ],
        "model": {key: first.model.get(key) for key in ("id", "digest")},
        "dataset": first.dataset,
        "control": first.job.get("control"),
        "recipe": first.recipe,
        **_measured(by_method, figures_in(runs)),
        "convergence": convergences(by_method),
        "steps_saved": steps_saved(by_method),
        "steps_saved_to_equal_scores": steps_saved_to_equal_scores(by_method),
        "training": {name: training_curve(by_method, name) for name in ("target_loss",)},
        "retention_loss_by_t": retention_by_t(by_method),
        "runs": [{"method": run.method, "seed": run.seed, "evaluation": run.result} for run in runs],
        "notes": _notes(by_method, runs),
    }
    return ComparisonReport.model_validate(plain(told))


def _measured(by_method: Runs, figures: list[Figure]) -> dict[str, Any]:
    """The figures of all methods: at the end, at equal numbers of target images, of references, along the training."""
    return {
        "figures": {
            figure.key: {
                "label": figure.label,
                "meaning": figure.explained,
                "lower_is_better": LOWER_IS_BETTER[figure.better],
                **at_equal_steps(by_method, figure),
                "equal_target_images": at_equal_images(by_method, figure),
            }
            for figure in figures
        },
        "equal_target_images": [
            {"first": one, "second": other, "steps": match.steps, "target_images": match.images}
            for one, other in by_method.pairs()
            if by_method.common(one, other) and (match := equal_images(by_method, one, other)) is not None
        ],
        "references": references(by_method),
        "curves": {figure.key: along(by_method, figure) for figure in figures},
    }


def _page(comparison: ComparisonReport, grids: list[Panel]) -> str:
    names = list(comparison.dataset.class_names)
    classes, of_first = names[:PICTURED], one_a_column(len(names))
    images = [
        {
            "title": panel.method,
            "css": f"s{panel.number}",
            "width": panel.image.width,
            "src": data_uri(panel.image),
            "columns": classes,
            "rows": FOLLOWING if comparison.control else [],
        }
        for panel in grids
    ]
    seed = grids[0].seed if grids else None
    return render("comparison.html.j2", **context(comparison), grids=images, grid_seed=seed, of_first=of_first)


def _method(runs: Runs, name: str) -> dict[str, Any]:
    by_seed = runs.of(name)
    some = next(iter(by_seed.values())).report
    return {
        "name": name,
        "seeds": list(by_seed),
        "type": some.job.get("method", {}).get("type"),
        "hyperparameters": some.hyperparameters,
        "trainable_parameters": some.model.get("trainable_parameters"),
    }


def _notes(runs: Runs, found: list[FinishedRun]) -> list[str]:
    notes = []
    methods = [_method(runs, name) for name in runs.methods]
    for field in _BUDGET:
        budgets = {entry["name"]: entry["hyperparameters"].get(field) for entry in methods}
        if len(set(budgets.values())) > 1:
            told = ", ".join(f"{name} {value}" for name, value in budgets.items())
            notes.append(f"The budgets are not equal: {field.replace('_', ' ')} of {told}.")
    if len({run.result.step for run in found}) > 1:
        notes.append("Not all results are of the same step: runs have stopped early, or deliver their best checkpoint.")
    if len(runs.methods) > 1 and max(len(runs.common(*pair)) for pair in runs.pairs()) == 1:
        notes.append("There is one seed in common: differences have no interval, and nothing is tested.")
    if len({run.report.recipe.reference_set_digest for run in found}) > 1:
        text = "The held-out images were drawn from the training file by the seed, so they differ between seeds"
        notes.append(f"{text}; within a seed they are the same for all methods.")
    notes += _shared(found)
    warnings = [text for run in found for entry in run.report.evaluations for text in entry.warnings]
    return [*notes, *dict.fromkeys(warnings)]


def _shared(found: list[FinishedRun]) -> list[str]:
    """Held-out images that were trained on, by seed; reports of earlier versions do not say."""
    of_seed = {run.seed: run.report.dataset for run in found}
    return [
        f"Seed {seed}: {shared_sentence(data.num_shared, data.num_held_out or 0)}"
        for seed, data in of_seed.items()
        if data.num_shared
    ]
