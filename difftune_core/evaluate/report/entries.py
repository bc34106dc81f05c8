"""What the parts of the page share: the names of references and figures, and which figures there are."""

from __future__ import annotations

from collections.abc import Iterable

from difftune_core.config.figures import Figure, all_figures, distance_of, find_figure
from difftune_core.config.reports.evaluation import Judged
from difftune_core.config.reports.run import RunReport

REFERENCES = {
    "base_model": "Base model, not tuned",
    "real_vs_real": "Real against real",
    "training_set": "The training set itself",
    "autoencoder_floor": "Autoencoder alone",
}

_NO_COVARIANCE = "no full covariance"  # of `compare` and `quality`


def title_of(metric: str) -> str:
    """A figure's name as the page writes it."""
    found = find_figure(metric)
    return metric if found is None else found.label


def measures(report: RunReport) -> list[Figure]:
    """The figures that this report has, in the page's order."""
    entries: list[Judged] = [*report.evaluations, *report.references.values()]
    known = figures_with(report.recipe.other_feature_extractors, controlled=report.is_controlled)
    return [f for f in known if "column" in f.shown or any(entry.has(f.key) for entry in entries)]


def figures_with(extractors: Iterable[str], *, controlled: bool) -> list[Figure]:
    """The figures of an evaluation with these further feature extractors; of a ControlNet they say what they mean
    there.
    """
    known = [figure for figure in all_figures() if figure.group != "run"]
    of_images = [figure for figure in known if not is_of_forgetting(figure)]
    found = [*of_images, *map(distance_of, extractors), *filter(is_of_forgetting, known)]
    return [figure.with_controls() for figure in found] if controlled else found


def is_of_forgetting(figure: Figure) -> bool:
    """Return whether a figure judges what is left of the base model, and not images against held-out ones."""
    return figure.group == "forgetting"


def is_of_few(entry: Judged, key: str) -> bool:
    """Return whether the entry warns that this Fréchet distance is of too few images for its features."""
    said = [text for text in entry.warnings if _NO_COVARIANCE in text]
    if key == "fid":
        return any(not text.startswith("fd_") for text in said)
    return any(text.startswith(f"{key}: ") for text in said)
