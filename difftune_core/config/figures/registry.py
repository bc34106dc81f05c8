"""All metrics of this installation: those of this package, and those that other distributions bring.

A distribution brings metrics by entry points of the group `difftune.figures`, each the name of a `Metric`. API, command
line and trainers find them alike, because they are found through what is installed.
"""

from __future__ import annotations

from functools import cache

from difftune_core.config.figures.agreement import AGREEMENT
from difftune_core.config.figures.copying import COPYING
from difftune_core.config.figures.figure import Figure, Group, Metric
from difftune_core.config.figures.forgetting import FORGETTING
from difftune_core.config.figures.quality import QUALITY
from difftune_core.config.outside import brought

GROUP = "difftune.figures"
"""The group of entry points."""
_ORDER: tuple[Group, ...] = ("agreement", "run", "quality", "forgetting")
_EXTRACTOR = "fd_"
_METRICS: dict[str, Metric] = {metric.name: metric for metric in (*AGREEMENT, *QUALITY, *COPYING, *FORGETTING)}


def register(metric: Metric) -> Metric:
    """Add a metric to this process, and return it.

    It is for what runs in one process, as a notebook does. Trainers are processes of their own and do not hear of it:
    bring the metric by an entry point there.

    Raises:
        ValueError: its name or the key of one of its figures is taken, or it is a default.
    """
    _installed()
    _add(metric)
    return metric


def all_metrics() -> tuple[Metric, ...]:
    """Return every metric, this package's first."""
    _installed()
    return tuple(_METRICS.values())


def named_metrics() -> dict[str, Metric]:
    """Return the metrics that can be asked for, by name."""
    return {metric.name: metric for metric in all_metrics() if metric.compute}


def default_metrics() -> tuple[str, ...]:
    """Return the names of the metrics that are measured unasked."""
    return tuple(name for name, metric in named_metrics().items() if metric.is_default)


def all_figures() -> tuple[Figure, ...]:
    """Return every figure in the order of reports: agreement, quality, forgetting."""
    found = (figure for metric in all_metrics() for figure in metric.figures)
    return tuple(sorted(found, key=lambda figure: _ORDER.index(figure.group)))


def find_figure(key: str) -> Figure | None:
    """Return the figure of this key, None where there is none; `fd_<id>` is one for each feature extractor."""
    known = next((figure for figure in all_figures() if figure.key == key), None)
    if known is None and key.startswith(_EXTRACTOR):
        return distance_of(key.removeprefix(_EXTRACTOR))
    return known


def distance_of(extractor: str) -> Figure:
    """Return the figure of a further feature extractor."""
    return Figure(
        key=f"{_EXTRACTOR}{extractor}",
        label=f"FD {extractor}",
        meaning=f"Fréchet distance over the features of {extractor}",
        better="lower",
        unit="squared distance of features",
        fewest=2,
    )


def _add(metric: Metric) -> None:
    taken = {figure.key for known in _METRICS.values() for figure in known.figures}
    own = [figure.key for figure in metric.figures]
    twice = [key for key in own if key in taken or own.count(key) > 1]
    if any(key.startswith(_EXTRACTOR) for key in own):
        raise ValueError(f"the metric {metric.name!r} has a figure {_EXTRACTOR}..., as extractors have them")
    if metric.is_default:
        raise ValueError(f"the metric {metric.name!r} cannot be a default: it would change what a config means")
    if metric.name in _METRICS or twice or not own:
        raise ValueError(f"the metric {metric.name!r} has no figure, or its name or a key is taken: {', '.join(own)}")
    _METRICS[metric.name] = metric


@cache
def _installed() -> None:
    """Add what other distributions bring, once.

    Raises:
        RuntimeError: an entry point is no metric, or cannot be loaded; the service does not start half known.
    """
    for metric in brought(GROUP, Metric):
        _add(metric)
