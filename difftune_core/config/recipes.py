"""The recipes of Diff-Tuning: what each is, and which of the method's settings mean something in it. Free of torch.

Another distribution brings a recipe by an entry point of the group `difftune.recipes`, the name of a `Recipe`. API,
command line and trainers find it alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import core_schema

from difftune_core.config.frozen import Frozen
from difftune_core.config.named import OneOf
from difftune_core.config.outside import Named, by_name
from difftune_core.config.sampling import ProcessName
from difftune_core.config.weighting import DogFitSettings, WeightedSettings

GROUP = "difftune.recipes"
"""The group of entry points."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Named):
    """How each step chooses the time, the source and the weight of every slot of its batch."""

    noun = "recipe"
    draw: str
    """`module:function` that makes a step's `objectives.draws.Draws`; only trainers import it."""
    loss: str = ""
    """`module:function` of the recipe's own loss, `objectives.denoising.Loss`, which only trainers import; empty: the
    denoising loss."""
    settings: type[Frozen] | None = None
    """Settings of the recipe's own, stated as `recipe_settings`; each has a default. None: it has none."""
    own: frozenset[str] = frozenset()
    """Settings that belong to the recipe alone: stated beside another one they are refused."""
    fixed: Mapping[str, tuple[object, str]] = field(default_factory=dict)
    """Settings of all recipes of which this one allows one value, with the reason that another is refused for;
    `{value}` in it is that one."""
    unused: frozenset[str] = frozenset()
    """Settings of all recipes that change nothing in this one; pages do not show them."""
    processes: frozenset[ProcessName] | None = None
    """The processes that the recipe is defined for; None for all."""
    why_processes: str = ""
    """Why the recipe is for these processes alone: what follows its name in the refusal."""
    has_teacher: bool = False
    """Whether the base model teaches on target images in place of a retention set."""


_OWN = (
    Recipe(name="algorithm1", draw="difftune_core.objectives.algorithm1:draw"),
    Recipe(
        name="released",
        draw="difftune_core.objectives.released:draw",
        own=frozenset({"retention_share", "retention_weight"}),
        fixed={
            "components": (
                "both",
                "components {value!r} is an ablation of Algorithm 1; the recipe 'released' has none",
            ),
            "psi": (
                "power",
                "the recipe 'released' draws t by a power law; psi 'snr' is of the other recipes",
            ),
        },
        unused=frozenset({"components"}),
        processes=frozenset({"ddpm"}),
        why_processes="draws DDPM timesteps",
    ),
    Recipe(
        name="distillation",
        draw="difftune_core.objectives.distillation:draw",
        own=frozenset({"distillation_weight"}),
        unused=frozenset({"retention_set"}),
        has_teacher=True,
    ),
    Recipe(
        name="dogfit",
        draw="difftune_core.objectives.dogfit:draw",
        settings=DogFitSettings,
        fixed={
            "components": ("both", "components {value!r} is an ablation of Algorithm 1; the recipe 'dogfit' has none"),
            "psi": ("power", "the recipe 'dogfit' draws t uniformly: psi {value!r} is of other recipes"),
        },
        unused=frozenset({"components", "psi", "tau", "retention_set"}),
        has_teacher=True,
    ),
    Recipe(
        name="weighted",
        draw="difftune_core.objectives.weighted:draw",
        settings=WeightedSettings,
        fixed={
            "components": (
                "both",
                "components {value!r} is an ablation of Algorithm 1; the recipe 'weighted' has share and weighting",
            ),
            "psi": (
                "power",
                "the recipe 'weighted' draws t by a power law; psi 'snr' is of the other recipes",
            ),
            "loss_weighting": (
                "none",
                "the recipe 'weighted' weighs the target alone, by recipe_settings: no loss_weighting {value!r}",
            ),
        },
        unused=frozenset({"components", "loss_weighting"}),
        processes=frozenset({"ddpm"}),
        why_processes="draws DDPM timesteps",
    ),
)


@cache
def all_recipes() -> dict[str, Recipe]:
    """Every recipe by name, this package's first.

    Raises:
        RuntimeError: an entry point is no recipe, cannot be loaded, or takes a name that is taken.
    """
    return by_name(_OWN, GROUP, Recipe)


@dataclass(frozen=True)
class RecipeSettings:
    """Marks an object whose fields are those of the recipe that stands beside it; the schema lists every recipe's."""

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe one of the settings that recipes have, or null."""
        known = [recipe.settings for recipe in all_recipes().values() if recipe.settings is not None]
        return {"anyOf": [*(handler(settings.__pydantic_core_schema__) for settings in known), {"type": "null"}]}


RecipeName = Annotated[str, OneOf(lambda: list(all_recipes()))]


def has_teacher(hyperparameters: Any) -> bool:
    """Return whether the base model is asked in every step; False for a recipe that is not installed here."""
    recipe = all_recipes().get(getattr(hyperparameters, "recipe", ""))
    return recipe is not None and recipe.has_teacher
