"""The transfer config: one object for REST, the command line and the trainer.

Importing this module loads pydantic and nothing else. A submitted config may leave out any field; `resolve` fills
what was left out from the base model's card: the stored config is complete and does not change when defaults do.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from difftune_core.config.adapter import Adapter, FullTuning, check_targets
from difftune_core.config.analysis import ChainOfForgetting
from difftune_core.config.card import BaseModelCard
from difftune_core.config.control import CONTROL_METRICS, ControlConfig
from difftune_core.config.control_resolution import controlled_training, measured_of, resolve_control
from difftune_core.config.evaluation import PRESETS, EvaluationConfig, check_measured
from difftune_core.config.frozen import Frozen
from difftune_core.config.recipe_rules import WHERE, check_recipe
from difftune_core.config.retention import RetentionSetConfig, RetentionSetId
from difftune_core.config.run import CheckpointConfig, ResourcesConfig
from difftune_core.config.sampling import SAMPLERS, check_sampler
from difftune_core.config.stored import without_former
from difftune_core.files import sha256_json
from difftune_core.hooks import TaskError

MAX_CLASSES = 1000
"""Of a target: diffusers' pipeline looks for the null label in row 1000 of an export's table."""
EMA_TIME_CONSTANT = 0.42  # in units of max_steps: 10,000 / 24,000, the paper's decay 0.9999 at its 24,000 steps


class TrainingHyperparameters(Frozen):
    """What every method needs. Left out: the default of the base model's card."""

    max_steps: Annotated[int, Field(ge=1, le=10_000_000)] = 24_000
    """Optimizer steps."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32
    """Images per step, target and retention images together."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """AdamW's learning rate, constant after warm-up."""
    warmup_steps: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Steps over which the learning rate rises linearly from 0."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """AdamW's decoupled weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients are scaled down to this L2 norm; null clips nothing, as in the paper."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Decay of the weight average per step. Null follows the run: exp(-1 / (0.42 max_steps))."""
    label_dropout: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Probability that a target image is trained with the null label (classifier-free guidance)."""
    horizontal_flip: bool = True
    """Whether images are also seen mirrored. Off where that changes the class, as for glyphs."""
    checkpoint_every_steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Steps between checkpoints; null saves at a quarter, half, three quarters and the end."""
    label_rows: Literal["reuse_rows", "mean", "null"] = "reuse_rows"
    """How new class rows start: source rows of the same number (as the released code), their mean, or the null row."""
    loss_weighting: Literal["none", "min_snr", "p2"] = "none"
    """Weight of the noise prediction's error by t: `min_snr` is min(SNR, 5) / SNR, `p2` is (1 + SNR)^-0.5."""
    adapter: Adapter = FullTuning()
    """What is trained: `full` everything, `lora`, `difffit`, `bitfit`, `adaptformer`, `vpt` a small part of it."""
    log_every_steps: Annotated[int, Field(ge=1, le=10_000_000)] = 10
    """Steps between metrics; a value is the mean over the steps since the one before."""


class DiffTuningHyperparameters(TrainingHyperparameters):
    """Diff-Tuning (Zhong et al., NeurIPS 2024): psi(t) weighs the target, xi(t) = 1 - psi(t) the retention set."""

    psi: Literal["power", "snr"] = "power"
    """`power`: psi = (t/T)^tau. `snr`: psi = 1 / (1 + SNR(t)), the paper's alternative."""
    tau: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Exponent of psi. 0 is plain fine-tuning; 1 is the paper's default."""
    recipe: Literal["algorithm1", "released", "distillation"] = "algorithm1"
    """`algorithm1`: t uniform, the source of each image drawn by psi(t), unweighted loss (App. B.2). `released`: as the
    authors' code: a fixed share of the batch is retention, t drawn by a law of its own for each source. `distillation`:
    as `algorithm1`, but the base model teaches on target images in place of a retention set (App. C)."""
    components: Literal["both", "reconsolidation", "retention"] = "both"
    """The ablation of Fig. 6b, not with `released`: `reconsolidation` is xi = 0, `retention` is psi = 1."""
    retention_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Recipe `released`: share of the batch that is retention, rounded down (6 of 32); at least one image."""
    retention_weight: Annotated[float, Field(ge=0)] = 0.1
    """Recipe `released`: weight of the retention loss."""
    distillation_weight: Annotated[float, Field(ge=0)] = 0.05
    """Recipe `distillation`: weight of the squared distance to the base model's prediction."""
    retention_set: Literal["auto"] | RetentionSetId | RetentionSetConfig = "auto"
    """`auto` samples with the settings of the base model's card; or state them; or the id of a retention set."""


class SupervisedSpec(Frozen):
    """Plain fine-tuning on the target data: psi = 1."""

    hyperparameters: TrainingHyperparameters = TrainingHyperparameters()


class DiffTuningSpec(Frozen):
    """Diff-Tuning on the target data and a retention set."""

    hyperparameters: DiffTuningHyperparameters = DiffTuningHyperparameters()


class Supervised(Frozen):
    """The method `supervised`."""

    type: Literal["supervised"]
    supervised: SupervisedSpec = SupervisedSpec()

    @property
    def hyperparameters(self) -> TrainingHyperparameters:
        """The method's hyper-parameters."""
        return self.supervised.hyperparameters

    @property
    def needs_teacher(self) -> bool:
        """Whether the base model is asked in every step."""
        return False


class DiffTuning(Frozen):
    """The method `diff_tuning`."""

    type: Literal["diff_tuning"] = "diff_tuning"
    diff_tuning: DiffTuningSpec = DiffTuningSpec()

    @property
    def hyperparameters(self) -> DiffTuningHyperparameters:
        """The method's hyper-parameters."""
        return self.diff_tuning.hyperparameters

    @property
    def needs_teacher(self) -> bool:
        """Whether the base model is asked in every step."""
        return self.hyperparameters.recipe == "distillation"


Method = Annotated[Supervised | DiffTuning, Field(discriminator="type")]


class TransferConfig(Frozen):
    """What to tune, how, and how to judge it. Holds no paths."""

    schema_version: Literal[1] = 1
    """Version of this schema."""
    model: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    """Id of the base model, as `GET /v1/models` lists it."""
    method: Method = DiffTuning()
    """`diff_tuning` (default) or `supervised`, with its hyper-parameters under a key of the same name."""
    control: ControlConfig | None = None
    """Stable Diffusion only: the condition that a ControlNet beside the frozen base model is taught."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of data order, timesteps, noise and label dropout. Equal seeds pair two methods step by step."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How the result is judged."""
    checkpoints: CheckpointConfig = CheckpointConfig()
    """Which checkpoints stay in the store."""
    resources: ResourcesConfig = ResourcesConfig()
    """What the job trains on."""
    num_threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """CPU threads of the trainer; part of the config because it changes floating-point sums. Null: the worker's."""


def config_digest(config: TransferConfig) -> str:
    """What a checkpoint's config must be equal in for a resume: all but how the run is carried out, and what is left at
    its default, so that a field that is new in a release changes nothing.
    """
    ways = {"num_threads", "checkpoints", "resources"}
    return sha256_json(without_former(config.model_dump(exclude=ways, exclude_defaults=True), config))


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
    if card.family == "stable-diffusion":
        defaults = {"prompt": card.defaults.control.get("default_prompt", ""), **defaults}
    resolved = RetentionSetConfig.model_validate(_with_defaults(stated, defaults, card))
    check_sampler(resolved.sampler, card.process, param)
    if resolved.prompt is not None and card.family == "dit":
        raise TaskError(
            "invalid_option", f"{card.id} draws classes and takes no prompt", param.replace("sampler", "prompt")
        )
    return resolved


def _preset(given: EvaluationConfig, card: BaseModelCard) -> dict[str, Any]:
    """The named preset, its sampler only where the model's process has it: the publications had DDPM's."""
    preset = PRESETS[given.preset] if given.preset else {}
    return {name: value for name, value in preset.items() if name != "sampler" or value in SAMPLERS[card.process]}


def _resolve_evaluation(
    given: EvaluationConfig, card: BaseModelCard, control: ControlConfig | None
) -> EvaluationConfig:
    if control is None:
        own, measured = {}, frozenset[str]()
        if given.clip_model is not None:
            message = f"{card.id} draws classes: its images have no captions that a CLIP model could score"
            raise TaskError("clip_not_for_model", message, "evaluation.clip_model")
    else:
        own, measured = {"best_metric": CONTROL_METRICS[control.condition]}, measured_of(control.condition)
    defaults = _of_process(card, {**card.defaults.evaluation, **_preset(given, card), **own})
    resolved = EvaluationConfig.model_validate(_with_defaults(given, defaults, card))
    check_measured(resolved, measured | {"clip_score"} if measured and resolved.clip_model else measured)
    check_sampler(resolved.sampler, card.process, "evaluation.sampler")
    return resolved


def _resolve_diff_tuning(
    given: DiffTuningHyperparameters, card: BaseModelCard, control: ControlConfig | None
) -> dict[str, Any]:
    if isinstance(given.retention_set, str) and given.retention_set != "auto":
        return {"retention_set": given.retention_set}
    stated = given.retention_set if isinstance(given.retention_set, RetentionSetConfig) else RetentionSetConfig()
    if control is not None and stated.prompt is None:
        stated = RetentionSetConfig(**stated.model_dump(exclude_unset=True) | {"prompt": control.default_prompt})
    return {"retention_set": resolve_retention_set(stated, card, f"{WHERE}.retention_set.sampler")}


def _check_split(batch_size: int, config: TransferConfig) -> None:
    gpus = config.resources.gpus
    if batch_size % gpus:
        field = f"method.{config.method.type}.hyperparameters.batch_size"
        raise TaskError("batch_not_divisible", f"{batch_size} images cannot be split evenly over {gpus} GPUs", field)


def resolve(config: TransferConfig, card: BaseModelCard, *, num_threads: int) -> TransferConfig:
    """The complete config: what was left out comes from the card, `auto` and null become numbers.

    Raises:
        TaskError: fields that do not go together; `param` names the one at fault.
    """
    control = resolve_control(config, card)
    given = config.method.hyperparameters
    training = _with_defaults(given, card.defaults.training, card)
    _check_split(int(training["batch_size"]), config)
    steps = int(training["max_steps"])
    if training["ema_decay"] is None:
        training["ema_decay"] = math.exp(-1 / (EMA_TIME_CONSTANT * steps))
    if training["checkpoint_every_steps"] is None:
        training["checkpoint_every_steps"] = math.ceil(steps / 4)
    if isinstance(given, DiffTuningHyperparameters):
        check_recipe(given, int(training["batch_size"]), card)
        training |= _resolve_diff_tuning(given, card, control)
    if control is not None:
        training |= controlled_training(given)
    else:
        check_targets(given.adapter, f"method.{config.method.type}.hyperparameters.adapter.targets")
    return TransferConfig.model_validate(
        {
            **config.model_dump(),
            "method": {"type": config.method.type, config.method.type: {"hyperparameters": training}},
            "control": control,
            "evaluation": _resolve_evaluation(config.evaluation, card, control),
            "num_threads": config.num_threads or num_threads,
        }
    )


def resolve_analysis(config: ChainOfForgetting, card: BaseModelCard) -> ChainOfForgetting:
    """The complete config of an analysis.

    Raises:
        TaskError: as `resolve`, of the evaluation.
    """
    given = TransferConfig(model=config.model, seed=config.seed, evaluation=config.evaluation)
    return config.model_copy(update={"evaluation": resolve(given, card, num_threads=1).evaluation})
