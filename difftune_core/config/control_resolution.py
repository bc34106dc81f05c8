"""Completing and checking the transfer config of a ControlNet run. Pydantic only."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from difftune_core.config.adapter import FullTuning, Lora
from difftune_core.config.card import BaseModelCard
from difftune_core.config.control import COMPUTED, CONTROL_METRICS, Condition, ControlConfig
from difftune_core.config.transfer import TrainingHyperparameters, TransferConfig
from difftune_core.hooks import TaskError

LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""Attention layers of diffusers' blocks, where a config names none."""


def measured_of(condition: Condition) -> frozenset[str]:
    """What every evaluation of a ControlNet run measures."""
    further = {"miou"} if condition == "segmentation" else set()
    return frozenset({CONTROL_METRICS[condition], *further})


def resolve_control(config: TransferConfig, card: BaseModelCard) -> ControlConfig | None:
    """The complete `control`; None for a base model that draws classes.

    Raises:
        TaskError: `control_required`, `control_not_for_model`, `annotator_required`, `annotator_not_used`,
            `recipe_not_for_model`, `adapter_not_for_model`, `guidance_not_for_model` or `flip_not_for_model`, naming
            the field.
    """
    given = config.control
    if card.family != "stable-diffusion":
        if given is not None:
            raise TaskError(
                "control_not_for_model", f"{card.id} is no Stable Diffusion: it takes no control", "control"
            )
        return None
    if given is None:
        message = f"{card.id} is tuned through a ControlNet beside it: state its condition"
        raise TaskError("control_required", message, "control.condition")
    _check_method(config, card)
    known = {k: v for k, v in card.defaults.control.items() if k in ControlConfig.model_fields}
    fields = {**given.model_dump(), **known, **given.model_dump(exclude_unset=True)}
    if fields["default_prompt"] is None:
        fields["default_prompt"] = ""
    if given.annotator is not None and given.condition in COMPUTED:
        message = f"{given.condition!r} is computed: no network draws it"
        raise TaskError("annotator_not_used", message, "control.annotator")
    if fields["annotator"] is None:
        fields["annotator"] = card.annotators.get(given.condition)
    if fields["annotator"] is None and given.condition not in COMPUTED:
        message = f"the condition {given.condition!r} needs a network that draws it, and {card.id} names none"
        raise TaskError("annotator_required", message, "control.annotator")
    try:
        return ControlConfig.model_validate(fields)
    except ValidationError as error:  # what was given has been checked, so it is the card whose value is none
        first = error.errors()[0]
        field = "/".join(map(str, first["loc"]))
        message = f"the card of {card.id} has a value that cannot be used: {field}: {first['msg']}"
        raise TaskError("model_unreadable", message, "model") from None


def controlled_training(given: TrainingHyperparameters) -> dict[str, Any]:
    """Training fields that a ControlNet run has in its own way: nothing is mirrored, LoRA is on attention layers."""
    fields: dict[str, Any] = {"horizontal_flip": False}
    if isinstance(given.adapter, Lora) and "targets" not in given.adapter.model_fields_set:
        fields["adapter"] = given.adapter.model_copy(update={"targets": LORA_TARGETS})
    return fields


def _check_method(config: TransferConfig, card: BaseModelCard) -> None:
    given, where = config.method.hyperparameters, f"method.{config.method.type}.hyperparameters"
    if getattr(given, "recipe", None) == "distillation":
        message = "a ControlNet has no teacher: the frozen base model is inside it; take algorithm1 or released"
        raise TaskError("recipe_not_for_model", message, f"{where}.recipe")
    if not isinstance(given.adapter, FullTuning | Lora):
        message = f"a ControlNet is tuned in full or by lora, not by {given.adapter.type}"
        raise TaskError("adapter_not_for_model", message, f"{where}.adapter")
    if given.horizontal_flip and "horizontal_flip" in given.model_fields_set:
        message = "mirrored images no longer fit their captions and controls"
        raise TaskError("flip_not_for_model", message, f"{where}.horizontal_flip")
    if config.evaluation.guidance == "domain" or config.evaluation.other_guidance:
        field = "guidance" if config.evaluation.guidance == "domain" else "other_guidance"
        message = f"{card.id} is guided by the empty prompt (cfg) or not at all (none)"
        raise TaskError("guidance_not_for_model", message, f"evaluation.{field}")
