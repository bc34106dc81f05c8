"""The table of figures as docs show it."""

from __future__ import annotations

from collections.abc import Iterable

from difftune_core.config.figures.figure import Metric
from difftune_core.config.figures.registry import all_metrics

_COLUMNS = ("figure", "better", "unit", "what it is", "looks at", "measured", "error", "bias")


def table() -> str:
    """Return the table of all figures of this installation, in Markdown."""
    rows = [_COLUMNS, tuple("---" for _ in _COLUMNS), *map(_row, all_metrics())]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(metric: Metric) -> tuple[str, ...]:
    keys = [figure.key for figure in metric.figures]
    asked = f" (`{metric.name}`)" if metric.compute and metric.name not in keys else ""
    told = [f"{figure.label}: {figure.meaning}" for figure in metric.figures]
    return (
        f"{_joined(f'`{key}`' for key in keys)}{asked}",
        _joined(figure.better for figure in metric.figures),
        _joined(figure.unit for figure in metric.figures),
        ". ".join([*told, *filter(None, [metric.how])]),
        _joined(need.replace("_", " ") for need in sorted(metric.needs)),
        metric.measured,
        metric.error,
        metric.bias,
    )


def _joined(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(filter(None, words)))
