"""Lines and cells of the tables of `docs/results.md`."""

from __future__ import annotations

from pathlib import Path

NOT_MEASURED = "–"


def drawn(image: Path) -> str:
    """Say where a plot is, which is drawn with the page and not kept in the repository."""
    return f"Plot: `{image.as_posix()}`."


def line(cells: list[str]) -> str:
    """A row in Markdown."""
    return f"| {' | '.join(cells)} |"


def cell(figure: dict[str, float] | None, digits: int = 2) -> str:
    """Return what `workbench.study.statistics.spread` gave."""
    if figure is None:
        return NOT_MEASURED
    mean = f"{figure['mean']:.{digits}f}"
    return mean if figure["n"] < 2 else f"{mean} ± {figure['sd']:.{digits}f}"  # noqa: PLR2004  # one seed has no spread
