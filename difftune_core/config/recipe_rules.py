"""Which of Diff-Tuning's settings go together: one that would change nothing is refused, not ignored. Pydantic only."""

from __future__ import annotations

from typing import Any

from difftune_core.config.card import BaseModelCard
from difftune_core.config.transfer import DiffTuningHyperparameters
from difftune_core.hooks import TaskError

WHERE = "method.diff_tuning.hyperparameters"
_RECIPE_OF = {"retention_share": "released", "retention_weight": "released", "distillation_weight": "distillation"}


def check_recipe(given: DiffTuningHyperparameters, batch_size: int, card: BaseModelCard) -> None:
    """Refuse settings that contradict the recipe or have no meaning in it.

    Args:
        given: as stated.
        batch_size: resolved, images per step.
        card: of the base model.

    Raises:
        TaskError: `recipe_not_for_process`, `invalid_option`, `no_retention`, naming the field.
    """
    if given.recipe == "released":
        _check_released(given, batch_size, card)
    for field, recipe in _RECIPE_OF.items():
        if given.recipe != recipe and _is_stated(given, field, card):
            raise _refused(field, f"{field} belongs to the recipe {recipe!r}, not to {given.recipe!r}")
    if given.psi == "snr" and _is_stated(given, "tau", card):
        raise _refused("tau", "tau is the exponent of psi 'power'; psi 'snr' has none")
    if given.recipe == "distillation" and isinstance(given.retention_set, str) and given.retention_set != "auto":
        raise _refused("retention_set", "the recipe 'distillation' takes no retention set: the base model teaches")


def idle(hyperparameters: dict[str, Any], *, controlled: bool) -> set[str]:
    """Names of a method's settings that change nothing in a resolved config; `controlled`: of a ControlNet."""
    found = {"label_rows", "label_dropout"} if controlled else set()
    recipe = hyperparameters.get("recipe")
    if recipe is None:  # plain fine-tuning
        return found
    found |= {field for field, of in _RECIPE_OF.items() if recipe != of}
    found |= {"tau"} if hyperparameters.get("psi") == "snr" else set()
    found |= {"components"} if recipe == "released" else set()
    return found | ({"retention_set"} if recipe == "distillation" else set())


def _check_released(given: DiffTuningHyperparameters, batch_size: int, card: BaseModelCard) -> None:
    if card.process != "ddpm":
        message = f"the recipe 'released' draws DDPM timesteps; {card.id} is a model of the process {card.process!r}"
        raise TaskError("recipe_not_for_process", message, f"{WHERE}.recipe")
    if given.components != "both":
        message = f"components {given.components!r} is an ablation of Algorithm 1; the recipe 'released' has none"
        raise _refused("components", message)
    if given.psi != "power":
        raise _refused("psi", "the recipe 'released' draws t by a power law; psi 'snr' is of the other recipes")
    if int(batch_size * given.retention_share) == 0:
        message = f"retention_share {given.retention_share} of a batch of {batch_size} is not one retention image"
        raise TaskError("no_retention", message, f"{WHERE}.retention_share")


def _is_stated(given: DiffTuningHyperparameters, field: str, card: BaseModelCard) -> bool:
    """Whether somebody wishes for it. What would be filled in is no wish: a job's config, as it is shown, is complete,
    and may be submitted again.
    """
    filled_in = card.defaults.training.get(field, type(given).model_fields[field].default)
    return field in given.model_fields_set and getattr(given, field) != filled_in


def _refused(field: str, message: str) -> TaskError:
    return TaskError("invalid_option", message, f"{WHERE}.{field}")
