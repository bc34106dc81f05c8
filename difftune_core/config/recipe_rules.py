"""Which of Diff-Tuning's settings go together: one that would change nothing is refused, not ignored. Pydantic only."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from difftune_core.config.card import BaseModelCard
from difftune_core.config.methods.hyperparameters import DiffTuningHyperparameters
from difftune_core.config.recipes import all_recipes
from difftune_core.hooks import TaskError

WHERE = "method.diff_tuning.hyperparameters"


def check_recipe(given: DiffTuningHyperparameters, batch_size: int, card: BaseModelCard) -> None:
    """Refuse settings that contradict the recipe or have no meaning in it.

    Args:
        given: as stated.
        batch_size: resolved, images per step.
        card: of the base model.

    Raises:
        TaskError: `recipe_not_for_process`, `invalid_option`, `no_retention`, naming the field.
    """
    recipe = all_recipes()[given.recipe]
    if recipe.processes is not None and card.process not in recipe.processes:
        model = f"{card.id} is a model of the process {card.process!r}"
        message = f"the recipe {recipe.name!r} {recipe.why_processes}; {model}"
        raise TaskError("recipe_not_for_process", message, f"{WHERE}.recipe")
    for field, (value, why) in recipe.fixed.items():
        if (stated := getattr(given, field)) != value:
            raise _refused(field, why.format(value=stated))
    if "retention_share" in recipe.own and int(batch_size * given.retention_share) == 0:
        message = f"retention_share {given.retention_share} of a batch of {batch_size} is not one retention image"
        raise TaskError("no_retention", message, f"{WHERE}.retention_share")
    for field, owner in _owners().items():
        if owner != given.recipe and _is_stated(given, field, card):
            raise _refused(field, f"{field} belongs to the recipe {owner!r}, not to {given.recipe!r}")
    if given.psi == "snr" and _is_stated(given, "tau", card):
        raise _refused("tau", "tau is the exponent of psi 'power'; psi 'snr' has none")
    if recipe.has_teacher and isinstance(given.retention_set, str) and given.retention_set != "auto":
        message = f"the recipe {recipe.name!r} takes no retention set: the base model teaches"
        raise _refused("retention_set", message)


def own_settings(given: DiffTuningHyperparameters) -> dict[str, Any] | None:
    """The recipe's own settings, complete; None where it has none.

    Raises:
        TaskError: `invalid_option`, naming the field.
    """
    recipe, stated = all_recipes()[given.recipe], given.recipe_settings
    if recipe.settings is None:
        if stated:
            raise _refused("recipe_settings", f"the recipe {recipe.name!r} has no settings of its own")
        return None
    try:
        return recipe.settings.model_validate(stated or {}).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, ("recipe_settings", *first["loc"])))
        raise _refused(field, first["msg"]) from None


def idle(hyperparameters: dict[str, Any], *, controlled: bool) -> set[str]:
    """Names of a method's settings that change nothing in a resolved config; `controlled`: of a ControlNet."""
    found = {"label_rows", "label_dropout"} if controlled else set()
    found |= {"min_learning_rate"} if hyperparameters.get("lr_schedule", "constant") == "constant" else set()
    found |= {"recipe_settings"} if hyperparameters.get("recipe_settings") is None else set()
    name = hyperparameters.get("recipe")
    if name is None:  # plain fine-tuning
        return found
    found |= {field for field, owner in _owners().items() if owner != name}
    found |= {"tau"} if hyperparameters.get("psi") == "snr" else set()
    recipe = all_recipes().get(name)  # of one that is not installed here it is shown what the config has
    return found | (recipe.unused if recipe is not None else set())


def _owners() -> dict[str, str]:
    """Setting -> the one recipe that it means something in."""
    return {field: recipe.name for recipe in all_recipes().values() for field in sorted(recipe.own)}


def _is_stated(given: DiffTuningHyperparameters, field: str, card: BaseModelCard) -> bool:
    """Return whether a setting was stated. What would be filled in was not: a job's config, as it is shown, is
    complete, and may be submitted again.
    """
    filled_in = card.defaults.training.get(field, type(given).model_fields[field].default)
    return field in given.model_fields_set and getattr(given, field) != filled_in


def _refused(field: str, message: str) -> TaskError:
    return TaskError("invalid_option", message, f"{WHERE}.{field}")
