"""Hyper-parameters of the methods: those that every method has, and those that Diff-Tuning has beside them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from difftune_core.config.adapter import Adapter, FullTuning
from difftune_core.config.crops import CropName
from difftune_core.config.frozen import Frozen
from difftune_core.config.recipes import RecipeName, RecipeSettings
from difftune_core.config.retention import RetentionSetConfig, RetentionSetId
from difftune_core.config.weighting import LossWeighting

MAX_STEPS = 10_000_000
LrSchedule = Literal["constant", "linear", "cosine"]
RetentionSetting = Literal["auto"] | RetentionSetId | RetentionSetConfig
"""What a method says of the images to retain with."""


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
    retention_set: RetentionSetting = "auto"
    """`auto` samples with the settings of the base model's card; or state them; or the id of a retention set."""
    recipe_settings: Annotated[dict[str, Any] | None, RecipeSettings()] = None
    """Settings that a recipe of another package has of its own; null where it has none."""
