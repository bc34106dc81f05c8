"""THE table of figures: what each is called, means and needs. All who name a figure read it; none of it loads torch.

`docs/extending.md` says how to bring a metric of your own.
"""

from difftune_core.config.figures.figure import Chart, Figure, Metric
from difftune_core.config.figures.registry import (
    all_figures,
    all_metrics,
    default_metrics,
    distance_of,
    find_figure,
    named_metrics,
    register,
)

__all__ = [
    "Chart",
    "Figure",
    "Metric",
    "all_figures",
    "all_metrics",
    "default_metrics",
    "distance_of",
    "find_figure",
    "named_metrics",
    "register",
]
