"""Which figures of its runs a comparison shows: those of the table, and those under other guidances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from difftune_core.config.figures import Figure, all_figures, distance_of, find_figure
from difftune_core.evaluate.comparison.runs import FinishedRun


def figures_in(runs: Sequence[FinishedRun]) -> list[Figure]:
    """The figures that any of the runs has, those under other guidances and in other features among them."""
    ends = [run.result for run in runs]
    extractors = {name: None for run in runs for name in run.report.recipe.other_feature_extractors}
    guidances = {name: None for end in ends for name in end.other_guidance}
    others = [*_under(guidances), *map(distance_of, extractors)]
    table = all_figures()
    first = [figure.key for figure in table].index("fid") + 1
    known = [*table[:first], *others, *table[first:]]
    if any(run.controlled for run in runs):
        known = [figure.with_controls() for figure in known]
    return [figure for figure in known if any(end.at(figure) is not None for end in ends)]


def _under(guidances: Iterable[str]) -> list[Figure]:
    """FID under each of these guidances."""
    fid = find_figure("fid")
    assert fid is not None, "of this package"
    return [
        replace(
            fid,
            key=f"fid_{name}",
            label=f"FID, {'no guidance' if name == 'none' else f'{name} guidance'}",
            meaning=f"As FID, but sampled with guidance {name!r}",
            path=("other_guidance", name, "fid"),
        )
        for name in guidances
    ]
