"""What a config may say of a ControlNet beside a Stable Diffusion, and how it is completed."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar

from pydantic import ValidationError

from difftune_core.config.adapter import FullTuning, Lora
from difftune_core.config.card import BaseModelCard
from difftune_core.config.control import ControlConfig
from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.families import FamilyRules
from difftune_core.config.methods.hyperparameters import TrainingHyperparameters
from difftune_core.config.plan.sizes import NetworkSize, size_by_parameters
from difftune_core.config.retention import RetentionSetConfig
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.controlnet.sizes import network_size
from difftune_core.hooks import TaskError

_CONTROLNET_SHARE = 0.42
"""Parameters of a ControlNet by those of its UNet: 361 of 860 million in Stable Diffusion 1.5."""
_LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""Attention layers of diffusers' blocks, where a config names none."""


class ControlNetRules(FamilyRules):
    """A ControlNet follows a condition, stated in the config's `control`."""

    implementation = "difftune_core.families.controlnet.family:CONTROLNET"
    section = "control"
    data_form = "captioned"
    evaluations = (8, 16)  # with these its sudden convergence is found at all, and well
    comparison_defaults: ClassVar[Mapping[str, Any]] = {}
    no_format: ClassVar[Mapping[str, str]] = {
        "original": "A ControlNet under the names of the original code is format=single_file."
    }

    def complete_control(self, config: TransferConfig, card: BaseModelCard) -> ControlConfig:
        """Complete the condition, its annotator and the default prompt.

        Raises:
            TaskError: `control_required`, `annotator_required`, `annotator_not_used`, `recipe_not_for_model`,
                `adapter_not_for_model`, `guidance_not_for_model`, `classes_not_for_model` or `flip_not_for_model`,
                naming the field.
        """
        given = config.control
        if given is None:
            message = f"{card.id} is tuned through a ControlNet beside it: state its condition"
            raise TaskError("control_required", message, "control.condition")
        _check_method(config, card)
        known = {k: v for k, v in card.defaults.control.items() if k in ControlConfig.model_fields}
        fields = {**given.model_dump(), **known, **given.model_dump(exclude_unset=True)}
        if fields["default_prompt"] is None:
            fields["default_prompt"] = ""
        fields["annotator"] = _annotator(given, fields["annotator"], card)
        try:
            return ControlConfig.model_validate(fields)
        except ValidationError as error:  # what was given has been checked, so it is the card whose value is none
            first = error.errors()[0]
            field = "/".join(map(str, first["loc"]))
            message = f"the card of {card.id} has a value that cannot be used: {field}: {first['msg']}"
            raise TaskError("model_unreadable", message, "model") from None

    def begun_with(self, given: dict[str, Any], before: TransferConfig, checkpoint: str) -> dict[str, Any]:
        """The condition of the ControlNet that a run begins with, where its config states none."""
        assert before.control is not None, "it has this section"
        if (stated := given.get("control")) is None:
            return {**given, "control": before.control.model_copy(update={"init_from": None}).model_dump()}
        if stated.get("init_from") is not None:
            message = f"the job begins with {checkpoint}: state control.init_from or a checkpoint, not both"
            raise TaskError("invalid_option", message, "control.init_from")
        return given

    def training(self, given: TrainingHyperparameters, where: str) -> dict[str, Any]:
        """Mirror nothing, and put LoRA on attention layers."""
        del where
        fields: dict[str, Any] = {"horizontal_flip": False}
        if isinstance(given.adapter, Lora) and "targets" not in given.adapter.model_fields_set:
            fields["adapter"] = given.adapter.model_copy(update={"targets": _LORA_TARGETS})
        return fields

    def evaluation_defaults(
        self, given: EvaluationConfig, control: ControlConfig | None, card: BaseModelCard
    ) -> dict[str, Any]:
        """The best is the one that follows its controls most closely."""
        del given, card
        assert control is not None, "completed before"
        return {"best_metric": control.definition.figures[0]}

    def retention_set(self, stated: RetentionSetConfig, control: ControlConfig | None) -> RetentionSetConfig:
        """Retention images are of the prompt that is trained by default."""
        assert control is not None, "completed before"
        if stated.prompt is not None:
            return stated
        return RetentionSetConfig(**stated.model_dump(exclude_unset=True) | {"prompt": control.default_prompt})

    def annotated(self, config: TransferConfig) -> str:
        """The condition that the ControlNet is taught."""
        assert config.control is not None, "completed before"
        return config.control.condition

    def measured_along(self, control: ControlConfig | None, evaluation: EvaluationConfig) -> AbstractSet[str]:
        """Return how controls are followed, and captions where a CLIP model scores them; quality comes at the end."""
        assert control is not None, "completed before"
        asked = ["clip_score"] if evaluation.clip_model else []
        return {*control.definition.figures, "held_out_loss", *asked}

    def retention_defaults(self, card: BaseModelCard) -> dict[str, Any]:
        """The default prompt of the card."""
        return {"prompt": card.defaults.control.get("default_prompt", "")}

    def no_chain(self, card: BaseModelCard) -> str:
        """A ControlNet has no chain to hand over: its base model draws every step."""
        return f"A chain of forgetting is of class-conditional models; these are ControlNets on {card.id}."

    def network_size(self, config: TransferConfig, card: BaseModelCard, num_classes: int | None) -> NetworkSize:
        """Size by the anatomy of the frozen UNet beside, or by its number of parameters where a card lacks that."""
        del num_classes
        if "unet" in card.anatomy:
            return network_size(card.anatomy, config.method.hyperparameters.adapter, card)
        return size_by_parameters(card, config.method.hyperparameters.adapter, share=_CONTROLNET_SHARE)

    def check_prompt(self, prompt: str | None, card: BaseModelCard, param: str) -> None:
        """Take any prompt."""


def _annotator(given: ControlConfig, stated: str | None, card: BaseModelCard) -> str | None:
    if given.annotator is not None and given.definition.is_computed:
        message = f"{given.condition!r} is computed: no network draws it"
        raise TaskError("annotator_not_used", message, "control.annotator")
    found = card.annotators.get(given.condition) if stated is None else stated
    if found is None and not given.definition.is_computed:
        message = f"the condition {given.condition!r} needs a network that draws it, and {card.id} names none"
        raise TaskError("annotator_required", message, "control.annotator")
    return found


def _check_method(config: TransferConfig, card: BaseModelCard) -> None:
    given, where = config.method.hyperparameters, config.method.where
    if config.method.needs_teacher:
        message = "a ControlNet has no teacher: the frozen base model is inside it; take algorithm1 or released"
        raise TaskError("recipe_not_for_model", message, config.method.objective.field)
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
    if config.evaluation.class_distribution != EvaluationConfig().class_distribution:
        message = f"images of {card.id} have captions and no classes: those of the held-out images are drawn"
        raise TaskError("classes_not_for_model", message, "evaluation.class_distribution")
