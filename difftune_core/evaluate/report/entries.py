"""What the parts of the page read from the report's dict: the result, the references, the names of figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from difftune_core.config.figures import Figure, all_figures, distance_of, find_figure
from difftune_core.evaluate.best import Entry, figure

Report = dict[str, Any]

REFERENCES = {
    "base_model": "Base model, not tuned",
    "real_vs_real": "Real against real",
    "autoencoder_floor": "Autoencoder alone",
}

_NO_COVARIANCE = "no full covariance"  # of `compare` and `quality`


def title_of(metric: str) -> str:
    """A figure's name as the page writes it."""
    found = find_figure(metric)
    return metric if found is None else found.label


def measures(report: Report) -> list[Figure]:
    """The figures that this report has, in the page's order."""
    entries = [*report.get("evaluations", []), *report.get("references", {}).values()]
    others = report.get("recipe", {}).get("other_feature_extractors", {})
    known = figures_with(others, controlled=is_controlled(report))
    return [f for f in known if "column" in f.shown or any(has(entry, f.key) for entry in entries)]


def figures_with(extractors: Iterable[str], *, controlled: bool) -> list[Figure]:
    """The figures of an evaluation with these further feature extractors; of a ControlNet they say what they mean
    there.
    """
    known = [figure for figure in all_figures() if figure.group != "run"]
    of_images = [figure for figure in known if not is_of_forgetting(figure)]
    found = [*of_images, *map(distance_of, extractors), *filter(is_of_forgetting, known)]
    return [figure.with_controls() for figure in found] if controlled else found


def is_of_forgetting(figure: Figure) -> bool:
    """Whether it judges what is left of the base model, and not images against held-out ones."""
    return figure.group == "forgetting"


def is_controlled(report: Report) -> bool:
    """Whether the run trained a ControlNet."""
    return bool(report.get("job", {}).get("control"))


def is_of_few(entry: Entry, key: str) -> bool:
    """Whether the entry warns that this Fréchet distance is of too few images for its features."""
    said = [text for text in entry.get("warnings", []) if _NO_COVARIANCE in text]
    if key == "fid":
        return any(not text.startswith("fd_") for text in said)
    return any(text.startswith(f"{key}: ") for text in said)


def result_of(report: Report) -> Entry:
    """The evaluation of what is delivered, which is the last one unless the report names another step."""
    evaluations = report.get("evaluations", [])
    named = [entry for entry in evaluations if entry["step"] == report.get("delivered_step")]
    return dict((named or evaluations)[-1]) if evaluations else {}


def base_figure(report: Report, key: str) -> float | None:
    """The base model's own figure, as a reference or beside the result."""
    found = figure(report.get("references", {}).get("base_model", {}), key)
    return figure(result_of(report), f"{key}_base") if found is None else found


def has(entry: Entry, key: str) -> bool:
    """Whether the figure was asked for, with or without a value."""
    return key in entry or key in entry.get("forgetting", {})
