"""What a figure of an evaluation is, and a metric, which measures one or several of them. Free of torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

Direction = Literal["lower", "higher", "neither"]
Group = Literal["agreement", "run", "quality", "forgetting"]
Need = Literal["features", "images", "training", "captions", "controls", "base_model"]
Place = Literal["column", "tile", "card", "strip", "curve"]
Reference = Literal["real_vs_real", "autoencoder_floor", "training_set"]
_NAME = re.compile(r"(?!fd_)[a-z][a-z0-9_]{0,47}(?<!_se)(?<!_interval)(?<!_method)")
RESERVED = frozenset(
    {"step", "seconds", "target_images", "convergence", "forgetting", "other_guidance", "warnings"}
    | {
        "num_real",
        "num_fake",
        "num_compared",
        "num_held_out",
        "num_train",
        "held_out_loss_by_t",
        "extractor",
        "extractors",
        "recipe",
        "real_digest",
        "fake_digest",
    }
)
"""Keys of an evaluation that are no figures."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """How a figure is drawn over the steps of a run."""

    title: str
    line: str
    """The line's name in the legend."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number of an evaluation, with everything that config, reports, commands and docs say of it."""

    key: str
    """Name of the figure in evaluations, in `best_metric` and, after `eval_`, among a job's metrics."""
    label: str
    meaning: str
    """A sentence for the reader of a report, without the full stop and without the direction."""
    better: Direction
    """Which way is better. Where it is `neither`, comparisons do not test it, and the best has the lowest."""
    unit: str = ""
    """Unit of the figure; empty for a number without one."""
    group: Group = "quality"
    """Group of the figure: agreement of validation images with their controls and captions, the run as a whole, quality
    of images against held-out ones, or what is left of the base model."""
    fewest: int = 0
    """Images on each side below which the figure has no value; 0 where that depends on more than their number."""
    is_along: bool = True
    """Whether evaluations before the end can have it, so that the best checkpoint can be chosen by it."""
    shown: tuple[Place, ...] = ("tile",)
    """Places beside the table of a report: `column` of that table also where no evaluation has the figure, headline
    `tile`, `card` of a job on the command line, `strip` and `curve` of a comparison."""
    headline: str = ""
    """Title of the figure's tile; empty: the label."""
    detail: str = ""
    """What the figure's tile says below the value, in place of the references."""
    chart: Chart | None = None
    """How the figure is drawn over the steps; None: a report draws no line of it."""
    has_reference_lines: bool = True
    """Whether the references' values are lines across its chart in a comparison."""
    limit: Reference = "real_vs_real"
    """The reference that says how good the figure can become. Held-out images agree with their own controls by
    definition; what the autoencoder leaves of that can be reached."""
    path: tuple[str, ...] = ()
    """Where the figure stands in an evaluation; empty: under its key."""
    meaning_with_controls: str = ""
    """Meaning of a ControlNet's figure, in place of `meaning`; empty: the same."""

    def __post_init__(self) -> None:
        """Refuse a key that reports could not tell from another.

        Raises:
            ValueError: see above.
        """
        if self.key in RESERVED or not (_NAME.fullmatch(self.key) or self.key.startswith("fd_")):
            raise ValueError(
                f"{self.key!r} can be no figure's key: lower-case letters, digits and _, not fd_... or ..._se"
            )

    @property
    def explained(self) -> str:
        """The figure's meaning with the direction where that is upwards, as reports print it."""
        return f"{self.meaning}{'; higher is better' if self.better == 'higher' else ''}."

    def with_controls(self) -> Figure:
        """Return the figure as it is of a ControlNet."""
        return replace(self, meaning=self.meaning_with_controls or self.meaning)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A way to measure figures; what they have in common."""

    name: str
    """Name of the metric in `evaluation.metrics` and `evaluate --metrics`."""
    figures: tuple[Figure, ...]
    needs: frozenset[Need]
    """What the metric looks at."""
    measured: str
    """When the metric is measured, in words."""
    how: str = ""
    """How the metric is computed beyond what the figures' meanings say, with the source, in words."""
    error: str
    """How the metric's standard error is found, in words."""
    bias: str
    """What pulls the metric up or down, in words."""
    compute: str = ""
    """`package.module:function` that computes it; see `difftune_core.evaluate.compare`. Loaded by who measures, so that
    who only describes a metric loads neither torch nor numpy. Empty: no metric to ask for by name."""
    is_default: bool = False
    """Whether the metric is measured without being asked for."""

    def __post_init__(self) -> None:
        """Refuse what could not be asked for or computed.

        Raises:
            ValueError: see above.
        """
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} can be no metric's name: lower-case letters, digits and _, not fd_...")
        if self.compute and not self.needs <= {"features", "images"}:
            raise ValueError(f"{self.name}: what is computed by name sees features and images, and nothing else")
