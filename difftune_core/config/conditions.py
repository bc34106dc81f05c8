"""The conditions that a ControlNet can be taught: who draws each, and how closely results follow it. Free of torch.

Another distribution brings a condition by an entry point of the group `difftune.conditions`, the name of a
`ControlCondition`. API, command line and trainers find it alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated

from difftune_core.config.named import OneOf
from difftune_core.config.outside import Named, by_name
from difftune_core.hooks import TaskError

GROUP = "difftune.conditions"
"""The group of entry points."""
_BY = "difftune_core.families.controlnet.controls"
_LINES, _NETWORKS = "difftune_core.data.conditions.lines", "difftune_core.data.conditions.networks"
_FORMULA = "lines 1"


@dataclass(frozen=True, kw_only=True)
class ControlCondition(Named):
    """What a control image shows of a picture."""

    noun = "condition"
    draw: str
    """`module:object`, which only trainers import. A function that makes a control image of a picture, both
    uint8 [h, w, 3]; of a condition that a network draws, a class that makes such a function of the network's folder and
    the device."""
    formula: str = ""
    """How a condition is computed, as the names of caches say it; empty where a network draws it. Another text is
    another formula."""
    architectures: tuple[str, ...] = ()
    """How the names of transformers' classes end that can draw it; none where it is computed."""
    compare: str
    """`module:function`, which only trainers import: of controls that were given, those drawn anew from results, and
    the palette or None, the `families.controlnet.controls.Agreement`."""
    figures: tuple[str, ...]
    """Keys of the figures that `compare` gives. By the first the best checkpoint is chosen."""

    @property
    def is_computed(self) -> bool:
        """Whether no network is needed."""
        return not self.architectures


_OWN = (
    ControlCondition(
        name="edge", draw=f"{_LINES}:edge", formula=_FORMULA, compare=f"{_BY}:by_similarity", figures=("ssim",)
    ),
    ControlCondition(
        name="sketch", draw=f"{_LINES}:sketch", formula=_FORMULA, compare=f"{_BY}:by_similarity", figures=("ssim",)
    ),
    ControlCondition(
        name="depth",
        draw=f"{_NETWORKS}:Depth",
        architectures=("ForDepthEstimation",),
        compare=f"{_BY}:by_difference",
        figures=("mse",),
    ),
    ControlCondition(
        name="normal",
        draw=f"{_NETWORKS}:Normal",
        architectures=("ForDepthEstimation",),
        compare=f"{_BY}:by_difference",
        figures=("mse",),
    ),
    ControlCondition(
        name="segmentation",
        draw=f"{_NETWORKS}:Segmentation",
        architectures=("ForSemanticSegmentation",),
        compare=f"{_BY}:by_classes",
        figures=("pixel_accuracy", "miou"),
    ),
)


@cache
def all_conditions() -> dict[str, ControlCondition]:
    """Every condition by name, this package's first.

    Raises:
        RuntimeError: an entry point is no condition, cannot be loaded, or takes a name that is taken.
    """
    return by_name(_OWN, GROUP, ControlCondition)


def find_condition(name: str) -> ControlCondition:
    """The condition of that name.

    Raises:
        TaskError: `condition_unknown`, nothing that is installed brings it.
    """
    found = all_conditions().get(name)
    if found is None:
        known = ", ".join(all_conditions())
        raise TaskError("condition_unknown", f"there is no condition {name!r}; there are: {known}", "condition")
    return found


ConditionName = Annotated[str, OneOf(lambda: list(all_conditions()))]


def drawn_by_networks() -> dict[str, tuple[str, ...]]:
    """Return the conditions that a network draws, by how the name of its class in transformers ends."""
    found: dict[str, tuple[str, ...]] = {}
    for condition in all_conditions().values():
        for end in condition.architectures:
            found[end] = (*found.get(end, ()), condition.name)
    return found
