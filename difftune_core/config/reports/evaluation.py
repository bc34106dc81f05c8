"""An evaluation: what a judge measures, what checkpoints keep, what pages show."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field, GetJsonSchemaHandler, JsonValue
from pydantic_core import core_schema

from difftune_core.config.figures import Figure, all_figures
from difftune_core.config.reports.record import Record

Number = int | float
_VALUE: dict[str, Any] = {"type": ["number", "null"]}
_INTERVAL: dict[str, Any] = {"type": ["array", "null"], "items": {"type": "number"}, "minItems": 2, "maxItems": 2}


class Figures(Record):
    """Figures by their keys, each with its standard error, its 95 % interval and further details beside it.

    `KEY_se` and `KEY_interval` belong to the figure `KEY`; null where there is no figure. The table of figures says
    which keys there are.
    """

    __pydantic_extra__: dict[str, JsonValue]

    def value(self, key: str) -> float | None:
        """Return the value of a figure; None where it was not measured or is no finite number."""
        return _number(self.part(key))

    def error(self, key: str) -> float | None:
        """Return the standard error of a figure, None where it has none."""
        return self.value(f"{key}_se")

    def has_own(self, key: str) -> bool:
        """Return whether the key was given, with or without a value."""
        return key in self._given

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        found = handler.resolve_ref_schema(handler(schema))
        for figure in filter(cls._holds, all_figures()):
            described = {"title": figure.label, "description": figure.explained}
            found["properties"] |= {
                figure.key: _VALUE | described,
                f"{figure.key}_se": _VALUE,
                f"{figure.key}_interval": _INTERVAL,
            }
        return found

    @classmethod
    def _holds(cls, figure: Figure) -> bool:
        return len(figure.path) < 2  # noqa: PLR2004  # under its own key


class Forgetting(Figures):
    """What is left of the base model."""

    num_source: int | None = None
    """The base model's own images that were compared with."""
    source: str | None = None
    """What identifies the base model's images; evaluations of 0.3.0 and earlier do not say."""
    retention_loss_by_t: list[float | None] | None = None
    """The loss on these images in ten equal bins of t, the data's end first."""

    @classmethod
    def _holds(cls, figure: Figure) -> bool:
        return figure.path[:1] == ("forgetting",)


class Judged(Figures):
    """Figures of one set of images against the held-out ones."""

    num_real: int | None = None
    """Held-out images."""
    num_fake: int | None = None
    """Judged images."""
    num_train: int | None = None
    """Training images that were compared with."""
    num_compared: int | None = None
    """Images that were compared with their controls."""
    num_held_out: int | None = None
    """Held-out images whose loss was measured."""
    held_out_loss_by_t: list[float | None] | None = None
    """The loss on these images in ten equal bins of t, the data's end first."""
    warnings: tuple[str, ...] = ()
    """What a reader of the figures must know."""
    forgetting: Forgetting = Forgetting()
    """What is left of the base model, where that was measured."""
    other_guidance: dict[str, Judged] = Field(default_factory=dict)
    """Figures under other guidances, from the same seeds."""

    def value(self, key: str) -> float | None:
        """Return the value of a figure, those of forgetting too; None where it has none."""
        return super().value(key) if self.has_own(key) else self.forgetting.value(key)

    def has(self, key: str) -> bool:
        """Return whether the figure was asked for, with or without a value."""
        return self.has_own(key) or self.forgetting.has_own(key)

    def at(self, figure: Figure) -> float | None:
        """Return the value at the place that a figure has in an evaluation, None where there is none."""
        found: Any = self
        for name in figure.path or (figure.key,):
            found = found.part(name) if isinstance(found, Record) else (found or {}).get(name)
        return _number(found)


class Convergence(Record):
    """What the rule of sudden convergence finds in a ControlNet run."""

    step: int | None = None
    """The first evaluated step behind the jump; null where there is none."""
    confidence: float = 0.0
    """1 - p of the likelihood-ratio test, also where no step is given."""
    interval: tuple[int, int] | None = None
    """95 % of the steps that are found again in noise like the run's."""
    jump: float | None = None
    """Height of the level, positive for the better way."""
    share: float | None = None
    """The height over the fitted curve's range."""
    num_evaluations: int | None = None
    """Evaluations that were looked at."""
    reason: str = ""
    """Why there is no step: `too_few_evaluations`, `not_significant`, `gradual`."""


class Evaluation(Judged):
    """One evaluation of a run."""

    step: int
    """Optimizer steps that were done."""
    seconds: float | None = None
    """How long the evaluation took, in seconds."""
    target_images: Number | None = None
    """Target images that had entered a step."""
    convergence: Convergence | None = None
    """What the rule found in the whole run, in comparisons."""


def _number(value: Any) -> float | None:
    """The value as a number; None of what is none, or is not finite."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None
