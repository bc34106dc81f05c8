"""Diff-Tuning: its recipe says what is learned, and whether a retention set or the base model retains."""

from __future__ import annotations

from typing import Any, Literal

from difftune_core.config.card import BaseModelCard
from difftune_core.config.frozen import Frozen
from difftune_core.config.methods.hyperparameters import DiffTuningHyperparameters
from difftune_core.config.methods.method import Method, Objective
from difftune_core.config.recipe_rules import check_recipe, own_settings
from difftune_core.config.recipes import all_recipes, has_teacher
from difftune_core.hooks import TaskError


class DiffTuningSpec(Frozen):
    """Diff-Tuning on the target data and a retention set."""

    hyperparameters: DiffTuningHyperparameters = DiffTuningHyperparameters()


class DiffTuning(Method):
    """The method `diff_tuning`."""

    label = "Diff-Tuning"
    type: Literal["diff_tuning"] = "diff_tuning"
    diff_tuning: DiffTuningSpec = DiffTuningSpec()

    @property
    def hyperparameters(self) -> DiffTuningHyperparameters:
        """The method's hyper-parameters."""
        return self.diff_tuning.hyperparameters

    @property
    def needs_teacher(self) -> bool:
        """Whether the base model is asked in every step."""
        return has_teacher(self.hyperparameters)

    @property
    def objective(self) -> Objective:
        """What is learned in a step, by the recipe.

        Raises:
            TaskError: `recipe_unknown`.
        """
        name, field = self.hyperparameters.recipe, f"{self.where}.recipe"
        recipe = all_recipes().get(name)
        if recipe is None:
            message = f"there is no recipe {name!r} here: known are {', '.join(all_recipes())}"
            raise TaskError("recipe_unknown", message, field)
        return Objective(noun="recipe", name=name, field=field, draw=recipe.draw, loss=recipe.loss)

    def resolved(self, card: BaseModelCard, batch_size: int) -> dict[str, Any]:
        """Return the recipe's own settings, complete, after judging what was stated by the recipe's rules.

        Raises:
            TaskError: `recipe_not_for_process`, `invalid_option`, `no_retention`.
        """
        check_recipe(self.hyperparameters, batch_size, card)
        return {"recipe_settings": own_settings(self.hyperparameters)}
