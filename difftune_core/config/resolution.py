"""Completing and judging what was submitted: what a config leaves out comes from the base model's card. Pydantic only.

A config is resolved once, where it is submitted; what is stored is what runs.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from difftune_core.config.analysis import ChainOfForgetting
from difftune_core.config.card import BaseModelCard
from difftune_core.config.control import ControlConfig
from difftune_core.config.course import check_course, closed, completed, with_samples
from difftune_core.config.evaluation import PRESETS, EvaluationConfig, check_measured
from difftune_core.config.families import rules_of
from difftune_core.config.methods.hyperparameters import RetentionSetting, TrainingHyperparameters
from difftune_core.config.retention import RetentionSetConfig
from difftune_core.config.samples import is_small
from difftune_core.config.sampling import SAMPLERS, check_sampler
from difftune_core.config.transfer import TransferConfig
from difftune_core.hooks import TaskError

_LEAST_STEP = 0.5  # rounds to a whole one


def _with_defaults(given: BaseModel, defaults: dict[str, Any], card: BaseModelCard) -> dict[str, Any]:
    """The given fields over the card's defaults over the class's own.

    Raises:
        TaskError: `model_unreadable`; what was given has been checked, so it is the card whose value is none.
    """
    known = {k: v for k, v in defaults.items() if k in type(given).model_fields}
    merged = {**given.model_dump(), **known, **given.model_dump(include=given.model_fields_set)}
    try:
        type(given).model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        message = f"the card of {card.id} has a default that cannot be used: {field}: {first['msg']}"
        raise TaskError("model_unreadable", message, "model") from None
    return merged


def _of_process(card: BaseModelCard, defaults: dict[str, Any]) -> dict[str, Any]:
    """The card's defaults, with the sampler of its process where they name none."""
    return {"sampler": SAMPLERS[card.process][0], **defaults}


def resolve_retention_set(given: RetentionSetConfig, card: BaseModelCard, param: str = "sampler") -> RetentionSetConfig:
    """The complete settings of a retention set: what was left out comes from the card.

    Raises:
        TaskError: `sampler_not_for_process`, naming `param`.
    """
    own = given.model_fields_set & RetentionSetConfig.model_fields.keys()
    stated = RetentionSetConfig.model_validate(given.model_dump(include=own))
    defaults = _of_process(card, card.defaults.retention_set)
    rules = rules_of(card)
    defaults = {**rules.retention_defaults(card), **defaults}
    resolved = RetentionSetConfig.model_validate(_with_defaults(stated, defaults, card))
    check_sampler(resolved.sampler, card.process, param)
    rules.check_prompt(resolved.prompt, card, param.replace("sampler", "prompt"))
    return resolved


def _preset(given: EvaluationConfig, card: BaseModelCard) -> dict[str, Any]:
    """The named preset, its sampler only where the model's process has it: the publications had DDPM's."""
    preset = PRESETS[given.preset] if given.preset else {}
    return {name: value for name, value in preset.items() if name != "sampler" or value in SAMPLERS[card.process]}


def _resolve_evaluation(
    given: EvaluationConfig, card: BaseModelCard, control: ControlConfig | None
) -> EvaluationConfig:
    rules = rules_of(card)
    own = rules.evaluation_defaults(given, control, card)
    defaults = _of_process(card, {**card.defaults.evaluation, **_preset(given, card), **own})
    resolved = EvaluationConfig.model_validate(_with_defaults(given, defaults, card))
    check_measured(resolved, rules.measured_along(control, resolved))
    check_sampler(resolved.sampler, card.process, "evaluation.sampler")
    _check_handover(resolved, card)
    return resolved


def _check_handover(resolved: EvaluationConfig, card: BaseModelCard) -> None:
    field, steps = "evaluation.handover", resolved.num_inference_steps
    if resolved.handover and not rules_of(card).has_handover:
        raise TaskError("handover_not_for_model", f"{card.id} has no chain whose end the base model could run", field)
    if 0 < resolved.handover * steps < _LEAST_STEP:
        message = f"a handover of {resolved.handover:g} is not half a step of {steps}: nothing would be handed over"
        raise TaskError("invalid_option", message, field)


def _check_times(resolved: TransferConfig, card: BaseModelCard) -> None:
    dropout, field = resolved.method.hyperparameters.time_dropout, f"{resolved.method.where}.time_dropout"
    if dropout and not rules_of(card).has_time_dropout:
        raise TaskError("time_dropout_not_for_model", f"the network of {card.id} is always told its time", field)
    if resolved.evaluation.noise_guidance_scale != 1 and not dropout:
        message = f"noise_guidance_scale leads away from the model without time, which none is trained for: set {field}"
        raise TaskError("invalid_option", message, "evaluation.noise_guidance_scale")


def _resolve_retained(
    given: RetentionSetting, card: BaseModelCard, control: ControlConfig | None, where: str
) -> str | RetentionSetConfig:
    if isinstance(given, str) and given != "auto":
        return given
    stated = given if isinstance(given, RetentionSetConfig) else RetentionSetConfig()
    stated = rules_of(card).retention_set(stated, control)
    return resolve_retention_set(stated, card, f"{where}.retention_set.sampler")


def _with_length(given: TrainingHyperparameters, training: dict[str, Any], where: str) -> dict[str, Any]:
    """Return what follows from the number of steps, or none of it: a config in epochs is closed later."""
    if given.epochs is None:
        return completed(training, where)
    return {name: value for name, value in training.items() if name != "max_steps"}


def _check_split(batch_size: int, config: TransferConfig) -> None:
    gpus = config.resources.gpus
    if batch_size % gpus:
        message = f"{batch_size} images cannot be split evenly over {gpus} GPUs"
        raise TaskError("batch_not_divisible", message, f"{config.method.where}.batch_size")


def resolve(
    config: TransferConfig, card: BaseModelCard, *, num_threads: int, num_images: int | None = None
) -> TransferConfig:
    """The complete config: what was left out comes from the card, `auto` and null become numbers.

    One whose length is stated in epochs stays open in this, unless `num_images`, its training images, are known.

    Raises:
        TaskError: fields that do not go together; `param` names the one at fault.
    """
    rules = rules_of(card)
    control = rules.complete_control(config, card)
    rules.check_method(config, card)
    given, where = config.method.hyperparameters, config.method.where
    check_course(given, card, where, num_images)
    training = _with_defaults(given, card.defaults.training, card)
    _check_split(int(training["batch_size"]), config)
    training = _with_length(given, training, where)
    training |= config.method.resolved(card, int(training["batch_size"]))
    if (retained := getattr(given, "retention_set", None)) is not None:
        training["retention_set"] = _resolve_retained(retained, card, control, where)
    training |= rules.training(given, where)
    resolved = TransferConfig.model_validate(
        {
            **config.model_dump(),
            "method": {"type": config.method.type, config.method.type: {"hyperparameters": training}},
            "control": control,
            "evaluation": _resolve_evaluation(config.evaluation, card, control),
            "num_threads": config.num_threads or num_threads,
        }
    )
    _check_times(resolved, card)
    resolved = with_samples(resolved, small=is_small(card.num_parameters))
    return resolved if num_images is None else closed(resolved, num_images)


def resolve_analysis(config: ChainOfForgetting, card: BaseModelCard) -> ChainOfForgetting:
    """The complete config of an analysis.

    Raises:
        TaskError: as `resolve`, of the evaluation.
    """
    given = TransferConfig(model=config.model, seed=config.seed, evaluation=config.evaluation)
    return config.model_copy(update={"evaluation": resolve(given, card, num_threads=1).evaluation})
