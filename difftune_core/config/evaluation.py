"""How a tuned model is judged: part of the transfer config. Pydantic only."""

from __future__ import annotations

from collections.abc import Set  # noqa: PYI025  # the name says it
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from difftune_core.config.figures import all_metrics, default_metrics, distance_of, find_figure
from difftune_core.config.figures.fields import FigureKey, MetricName
from difftune_core.config.frozen import Frozen
from difftune_core.config.model_ids import ExtractorId
from difftune_core.config.sampling import Guidance, Sampler
from difftune_core.hooks import TaskError

ClassDistribution = Literal["as_validation", "equal"]
UNMEASURED = "metric_without_figure"
"""Code of the warning that settings go by a metric that has no figure."""
FeatureExtractors = Annotated[tuple[ExtractorId, ...], Field(min_length=1, max_length=4, strict=False)]
_COMMON = {
    "sampler": "ddpm",
    "guidance_scale": 1.5,
    "guidance": "cfg",
    "guided_channels": 3,
    "other_guidance": ("none", "domain"),
    "class_distribution": "equal",  # DiT's code draws labels uniformly over the table; ours in turn, without its noise
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"num_images": 10_000, "num_inference_steps": 50, **_COMMON},
    "dit": {"num_images": 50_000, "num_inference_steps": 250, **_COMMON},
}


_Share = Annotated[float, Field(ge=0, le=1)]


def _rising(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] >= interval[1]:
        raise PydanticCustomError("guidance_interval", "guidance_interval must rise, as [0.1, 0.8] does")
    return interval


GuidanceInterval = Annotated[tuple[_Share, _Share], Field(strict=False), AfterValidator(_rising)]


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
    50 DDPM steps (Diff-Tuning), `dit` 50,000 in 250 (DiT); both with guidance 1.5 of the first 3 channels, and beside
    it without guidance and with Domain Guidance. Models of another process than DDPM keep their own sampler."""
    num_images: Annotated[int, Field(ge=2, le=1_000_000)] = 10_000
    """Images sampled for FID and KID."""
    class_distribution: ClassDistribution = "as_validation"
    """The classes of the images that are drawn: in the proportions of the held-out images (`as_validation`), or in
    `equal` shares. FID compares distributions: against a set of 270 and 30 images even a perfect model has a high FID
    by equal shares. The presets draw equal shares, as published."""
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
    guidance_interval: GuidanceInterval = (0.0, 1.0)
    """Noise levels as shares of the chain, t/T, between which guidance is on (Kynkaanniemi et al. 2024)."""
    guided_channels: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Guide the first latent channels only; DiT's published sampler, and so the presets, guide 3 of 4. Null: all."""
    handover: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of the chain, the end at the data, that the base model runs in place of the tuned one, without a class and
    so without guidance (Diff-Tuning, Fig. 1). It undoes copying where that has begun, and else only costs; measure on
    held-out images. Of models that draw classes; the export then has both networks."""
    noise_guidance_scale: Annotated[float, Field(ge=1, le=20)] = 1.0
    """Noise Awareness Guidance (arXiv 2510.12497), beside any other guidance and 1 for none: away from what the tuned
    model says without being told the time, at one more pass a step. The method must have a `time_dropout`."""
    other_guidance: Annotated[tuple[Guidance, ...], Field(max_length=3, strict=False)] = ()
    """Guidances by which the delivered model's FID and KID are measured too, at the end, from the same seeds."""
    every_steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Also evaluate each time this many steps are done; null evaluates the end only."""
    metrics: Annotated[tuple[MetricName, ...], Field(max_length=32, strict=False)] = default_metrics()
    """What is measured of the images: FID and KID always, further metrics where they are named. One that needs more
    images than there are has no figure and says why."""
    feature_extractors: FeatureExtractors | None = None
    """Ids of the networks whose features carry the distances: the first gives FID and KID, each further one `fd_<id>`.
    Null: the one that the base model's card names."""
    clip_model: ExtractorId | None = None
    """ControlNet: id of the CLIP model that scores how well the images of validation rows fit their captions
    (`clip_score`: 100 max(cos, 0), the mean over images). Null: no such score."""
    best_metric: FigureKey = "fid"
    """The figure by which the best checkpoint is chosen: one that each evaluation has, unasked or because `metrics` or
    `feature_extractors` name it (`fd_<id>`). ControlNet: one of the agreement with the condition, which is also the
    default there, or `clip_score`."""
    early_stopping: EarlyStopping | None = None
    """End when the evaluations of `every_steps` bring nothing more; null goes on to the last step."""
    deliver: Literal["last", "best"] = "last"
    """Which checkpoint is the result (`fine_tuned_model`, export, samples): the last one, or the best by its metric."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the sampled images; equal seeds give paired comparisons."""
    holdout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of each class held out of training for evaluation where there is no validation file."""


def least_images(metric: str) -> int:
    """Images on each side below which a metric has no figure; 0 where that depends on more than their number."""
    found = find_figure(metric)
    return 0 if found is None else found.fewest


def told_unmeasured(config: EvaluationConfig, num_held_out: int) -> str | None:
    """Tell what does nothing, and why, with too few held-out images for `best_metric` to have a figure; else None."""
    asked, least = goes_by_figures(config), least_images(config.best_metric)
    count = min(num_held_out, config.num_images)
    if not asked or count >= least:
        return None
    return (
        f"{asked} will do nothing: {config.best_metric} needs at least {least} images on each side, "
        f"and there are {num_held_out} held out and {config.num_images} generated."
    )


def goes_by_figures(config: EvaluationConfig) -> str:
    """Return which of the settings that go by `best_metric` are asked for, in words; empty where none is."""
    asked = {"evaluation.deliver 'best'": config.deliver == "best", "evaluation.early_stopping": config.early_stopping}
    return " and ".join(name for name, is_asked in asked.items() if is_asked)


def check_measured(config: EvaluationConfig, along_the_way: Set[str] = frozenset()) -> None:
    """Refuse a resolved config that goes by what it does not measure.

    Args:
        config: to be judged.
        along_the_way: of a ControlNet run: all that its evaluations measure before the end.

    Raises:
        TaskError: `not_unique`, `metric_not_measured`, `evaluations_needed`, naming the field.
    """
    extractors = config.feature_extractors or ()
    if len(set(extractors)) < len(extractors):
        message = f"feature_extractors names one twice: {', '.join(extractors)}"
        raise TaskError("not_unique", message, "evaluation.feature_extractors")
    measured = along_the_way or _measured_along(config)
    if config.best_metric not in measured:
        message = f"best_metric {config.best_metric!r} is not measured: there is {', '.join(sorted(measured))}"
        raise TaskError("metric_not_measured", message, "evaluation.best_metric")
    wishes = {"early_stopping": config.early_stopping is not None, "deliver 'best'": config.deliver == "best"}
    wanting = [name for name, asked in wishes.items() if asked]
    if wanting and config.every_steps is None:
        message = f"{' and '.join(wanting)} needs evaluations before the end: set every_steps"
        raise TaskError("evaluations_needed", message, "evaluation.every_steps")


def _measured_along(config: EvaluationConfig) -> set[str]:
    """Keys of what each evaluation of a model that draws classes has."""
    asked = {*default_metrics(), *config.metrics}
    of_classes = [metric for metric in all_metrics() if not metric.needs & {"controls", "captions"}]
    metrics = [metric for metric in of_classes if not metric.compute or metric.name in asked]
    known = {figure.key for metric in metrics for figure in metric.figures if figure.is_along}
    return known | {distance_of(id_).key for id_ in (config.feature_extractors or ())[1:]}
