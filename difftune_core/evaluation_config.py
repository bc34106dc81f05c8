"""How a tuned model is judged: part of the transfer config. Pydantic only."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from difftune_core.frozen import Frozen
from difftune_core.hooks import TaskError
from difftune_core.sampling_config import Guidance, Sampler

_ALWAYS = frozenset({"fid", "kid", "null_fid", "retention_loss", "l2_from_base"})
_METRIC = r"^(fid|kid|fid_infinity|precision|recall|null_fid|retention_loss|l2_from_base|fd_[a-z0-9][a-z0-9._-]{0,59})$"


_COMMON = {"sampler": "ddpm", "guidance_scale": 1.5, "guidance": "cfg", "other_guidance": ("none", "domain")}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"num_images": 10_000, "num_inference_steps": 50, **_COMMON},
    "dit": {"num_images": 50_000, "num_inference_steps": 250, **_COMMON},
}


class EarlyStopping(Frozen):
    """When training ends before its last step."""

    patience: Annotated[int, Field(ge=1, le=10_000)]
    """Evaluations in a row without an improvement of `best_metric` after which training ends."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """An improvement is more than this, in the unit of the metric."""


class EvaluationConfig(Frozen):
    """How the tuned model (its weight average) is judged; FID is against the held-out set where there is one."""

    preset: Literal["paper", "dit"] | None = None
    """Settings of a publication, over the card's defaults and below what is stated here: `paper` draws 10,000 images in
    50 DDPM steps (Diff-Tuning), `dit` 50,000 in 250 (DiT); both with guidance 1.5, and beside it without guidance and
    with Domain Guidance."""
    num_images: Annotated[int, Field(ge=2, le=1_000_000)] = 10_000
    """Images sampled for FID and KID, with the target's classes in equal shares."""
    sampler: Sampler = "ddim"
    """Reverse process."""
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Denoising steps per image."""
    guidance_scale: Annotated[float, Field(ge=1, le=20)] = 1.5
    """Classifier-free guidance, 1 for none."""
    guidance: Guidance = "cfg"
    """Whose null branch is guided away from: the tuned model's (`cfg`), the base model's (`domain`, Domain Guidance) or
    none's.

    Retention trains the null branch, and so changes what `cfg` does; `domain` and `none` are the controls.
    """
    other_guidance: Annotated[tuple[Guidance, ...], Field(max_length=3, strict=False)] = ()
    """Guidances by which the delivered model's FID and KID are measured too, at the end, from the same seeds."""
    every_steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Also evaluate each time this many steps are done; null evaluates the end only."""
    best_metric: Annotated[str, Field(pattern=_METRIC)] = "fid"
    """By which the best checkpoint is chosen: `fid`, `kid`, `null_fid`, `retention_loss` or `l2_from_base`; lower is
    better."""
    early_stopping: EarlyStopping | None = None
    """End when the evaluations of `every_steps` bring nothing more; null goes on to the last step."""
    deliver: Literal["last", "best"] = "last"
    """Which checkpoint is the result (`fine_tuned_model`, export, samples): the last one, or the best by its metric."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the sampled images; equal seeds give paired comparisons."""
    holdout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of each class held out of training for evaluation where there is no validation file."""


def check_measured(config: EvaluationConfig) -> None:
    """Refuse a resolved config that goes by what it does not measure.

    Raises:
        TaskError: `metric_not_measured`, `evaluations_needed`, naming the field.
    """
    if config.best_metric not in _ALWAYS:
        message = f"best_metric {config.best_metric!r} is not measured: there is {', '.join(sorted(_ALWAYS))}"
        raise TaskError("metric_not_measured", message, "evaluation.best_metric")
    wishes = {"early_stopping": config.early_stopping is not None, "deliver 'best'": config.deliver == "best"}
    wanting = [name for name, asked in wishes.items() if asked]
    if wanting and config.every_steps is None:
        message = f"{' and '.join(wanting)} needs evaluations before the end: set every_steps"
        raise TaskError("evaluations_needed", message, "evaluation.every_steps")
