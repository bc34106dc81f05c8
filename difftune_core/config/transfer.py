"""The transfer config: one object for REST, the command line and the trainer.

Importing this module loads pydantic and nothing else. A submitted config may leave out any field; `config.resolution`
fills what was left out from the base model's card: the stored config is complete and does not change when defaults do.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from difftune_core.config.adapter import Adapter, FullTuning
from difftune_core.config.control import ControlConfig
from difftune_core.config.crops import CropName
from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.frozen import Frozen
from difftune_core.config.model_ids import ModelId, NamedModel, named_models
from difftune_core.config.recipes import RecipeName, RecipeSettings, has_teacher
from difftune_core.config.retention import RetentionSetConfig, RetentionSetId
from difftune_core.config.run import CheckpointConfig, ResourcesConfig
from difftune_core.config.samples import SamplesConfig
from difftune_core.config.stored import without_former
from difftune_core.config.weighting import LossWeighting
from difftune_core.files import sha256_json

MAX_STEPS = 10_000_000
LrSchedule = Literal["constant", "linear", "cosine"]
MAX_CLASSES = 1000
"""Most classes of a target: diffusers' pipeline looks for the null label in row 1000 of an export's table."""


class TrainingHyperparameters(Frozen):
    """What every method needs. Left out: the default of the base model's card."""

    max_steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 24_000
    """Optimizer steps."""
    epochs: Annotated[float, Field(gt=0, le=MAX_STEPS)] | None = None
    """How often the training images go by, in place of `max_steps`, those held out not among them. It becomes steps as
    soon as their number is known: `epochs` times images by `batch_size`, rounded up."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32
    """Images per step, target and retention images together."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """AdamW's learning rate, the highest of the run."""
    lr_schedule: LrSchedule = "constant"
    """What becomes of the learning rate after the warm-up: it stays, or falls to `min_learning_rate` by the last step,
    along a line (`linear`) or half a cosine wave (`cosine`, Loshchilov and Hutter 2017)."""
    min_learning_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The learning rate at which `linear` and `cosine` end."""
    warmup_steps: Annotated[int, Field(ge=0, le=MAX_STEPS)] = 0
    """Steps over which the learning rate rises linearly from 0."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """AdamW's decoupled weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients are scaled down to this L2 norm; null clips nothing, as in the paper."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Decay of the weight average per step. Null follows the run: exp(-1 / (0.42 max_steps))."""
    label_dropout: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Probability that a target image is trained with the null label (classifier-free guidance)."""
    time_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that a target image is trained without telling the network its time, for
    `evaluation.noise_guidance_scale`; published: 0.1 to 0.2. Of models that draw classes."""
    horizontal_flip: bool = True
    """Whether images are also seen mirrored. Off where that changes the class, as for glyphs."""
    crop: CropName = "center"
    """How images that are not square are made so, their control images with them: `center` cuts the middle, `random` a
    part that is drawn once for each image, `resize` squeezes the whole. Held-out images are squeezed by `resize`, and
    otherwise cut in the middle."""
    checkpoint_every_steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = None
    """Steps between checkpoints; null saves at a quarter, half, three quarters and the end."""
    label_rows: Literal["reuse_rows", "mean", "null"] = "reuse_rows"
    """How new class rows start: source rows of the same number (as the released code), their mean, or the null row."""
    loss_weighting: LossWeighting = "none"
    """Weight of the noise prediction's error by t: `min_snr` is min(SNR, 5) / SNR, `p2` is (1 + SNR)^-0.5, `psi` is t/T
    on the error of whatever the network predicts, as Diff-Tuning's reconsolidation with tau 1."""
    adapter: Adapter = FullTuning()
    """What is trained: `full` everything, `lora`, `difffit`, `bitfit`, `adaptformer`, `vpt` a small part of it."""
    log_every_steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 10
    """Steps between metrics; a value is the mean over the steps since the one before."""


class DiffTuningHyperparameters(TrainingHyperparameters):
    """Diff-Tuning (Zhong et al., NeurIPS 2024): psi(t) weighs the target, xi(t) = 1 - psi(t) the retention set."""

    psi: Literal["power", "snr"] = "power"
    """`power`: psi = (t/T)^tau. `snr`: psi = 1 / (1 + SNR(t)), the paper's alternative."""
    tau: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Exponent of psi. 0 is plain fine-tuning; 1 is the paper's default."""
    recipe: RecipeName = "algorithm1"
    """`algorithm1`: t uniform, the source of each image drawn by psi(t), unweighted loss (App. B.2). `released`: as the
    authors' code: a fixed share of the batch is retention, t drawn by a law of its own for each source. `distillation`:
    as `algorithm1`, but the base model teaches on target images in place of a retention set (App. C). `weighted`: t
    uniform, the target's loss weighed by t, and a fixed share of retention whose weight may fall over the run.
    `dogfit`: plain fine-tuning into which Domain Guidance is learned, away from the base model (DogFit)."""
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
    recipe_settings: Annotated[dict[str, Any] | None, RecipeSettings()] = None
    """Settings that a recipe of another package has of its own; null where it has none."""


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
        return has_teacher(self.hyperparameters)


Method = Annotated[Supervised | DiffTuning, Field(discriminator="type")]


class TransferConfig(Frozen):
    """What to tune, how, and how to judge it. Holds no paths."""

    schema_version: Literal[1] = 1
    """Version of this schema."""
    model: ModelId
    """Id of the base model, as `GET /v1/models` lists it."""
    method: Method = DiffTuning()
    """`diff_tuning` (default) or `supervised`, with its hyper-parameters under a key of the same name."""
    control: ControlConfig | None = None
    """Stable Diffusion only: the condition that a ControlNet beside the frozen base model is taught."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of data order, timesteps, noise and label dropout. Equal seeds pair two methods step by step."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How the result is judged."""
    samples: SamplesConfig = SamplesConfig()
    """Images that are drawn on the way, to look at."""
    checkpoints: CheckpointConfig = CheckpointConfig()
    """Which checkpoints stay in the store."""
    resources: ResourcesConfig = ResourcesConfig()
    """What the job trains on."""
    num_threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """CPU threads of the trainer; part of the config because it changes floating-point sums. Null: the worker's."""

    def models(self) -> tuple[NamedModel, ...]:
        """All models that the config names: the base model, what judges, and what stands beside."""
        return tuple(named_models(self.model_dump()))


def config_digest(config: TransferConfig) -> str:
    """Digest what a config must be equal in for a resume: all but how the run is carried out, and what is left at
    its default, so that a field that is new in a release changes nothing.
    """
    ways = {"num_threads", "checkpoints", "resources", "samples"}
    return sha256_json(without_former(config.model_dump(exclude=ways, exclude_defaults=True), config))
