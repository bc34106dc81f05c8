"""Seconds by phase, where past runs say how fast the phase is; never where they do not."""

from __future__ import annotations

from difftune_core.config.course import is_open
from difftune_core.config.plan.circumstances import Circumstances
from difftune_core.config.plan.memory import retention_images
from difftune_core.config.retention import RetentionSetConfig
from difftune_core.config.transfer import TransferConfig


def work_of(config: TransferConfig, num_images: int | None) -> dict[str, float | None]:
    """Return how much a run has to do in each phase, in the unit by which its time grows; None where it is unknown.

    Images by denoising steps where images are drawn, images where they are encoded, images by steps of training.
    """
    hyperparameters, evaluation = config.method.hyperparameters, config.evaluation
    retained, drawn = retention_images(config), evaluation.num_images * evaluation.num_inference_steps
    stated = config.method.retention_set
    sampled = float(stated.num_images * stated.num_inference_steps) if isinstance(stated, RetentionSetConfig) else 0.0
    steps = None if is_open(config) else hyperparameters.max_steps
    every = evaluation.every_steps
    times = None if steps is None else 2 + (0 if every is None else (steps - 1) // every)  # the base model's is one too
    return {
        "building_retention_set": sampled,
        "drawing_base_model_images": float(drawn),
        "caching_latents": None if num_images is None else float(num_images + (retained or 0) + evaluation.num_images),
        "training": None if steps is None else float(steps * hyperparameters.batch_size),
        "evaluating": None if times is None else float(times * 2 * drawn),
        "exporting": 1.0,
    }


def seconds_of(config: TransferConfig, known: Circumstances) -> dict[str, float | None]:
    """Return the seconds of each phase; None where no past run tells."""
    rates = {} if known.rates is None else known.rates.seconds_a_unit
    found: dict[str, float | None] = {}
    is_made = known.retention in {"made", "cached"}
    for phase, work in work_of(config, known.num_images).items():
        rate = rates.get(phase)
        if work == 0 or (phase == "building_retention_set" and is_made):
            found[phase] = 0.0
        else:
            found[phase] = None if work is None or rate is None else round(work * rate, 1)
    return found


def rates_of(seconds: dict[str, float], config: TransferConfig, num_images: int | None) -> dict[str, float]:
    """Return seconds for a unit of work in each phase of a run that took so many; without phases that did nothing."""
    work = work_of(config, num_images)
    return {phase: took / amount for phase, took in seconds.items() if took > 0 and (amount := work.get(phase))}
