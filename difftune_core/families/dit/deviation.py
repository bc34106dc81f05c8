"""How far the images of an exported `DiTPipeline` are from those of our own sampler: measured, for the export's card.

Both draw from the same noise with the same labels, steps and guidance scale; n images of s x s pixels.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.dit.draw import sample_latents
from difftune_core.interruption import Listen, Progress, after, of_batch, unheard
from difftune_core.networks.autoencoder import Autoencoder
from difftune_core.networks.dit import DiT
from difftune_core.runtime.rng import generator

_NUM_IMAGES = 8
_MOST_STEPS = 50  # more would change the figure little and the time much
_DIT_GUIDED_CHANNELS = 3
_ORDER = "float32 sums are added in another order"
_FREQUENCIES = (
    "the weights were trained with the original's timestep frequencies, exponent i / half; "
    "the pipeline computes its own, i / (half - 1)"
)
_CHANNELS = "the pipeline guides all latent channels, DiT's published sampler the first three"
_VARIANCE = (
    "the pipeline drops the learned variance: ancestral sampling with it adds noise in every step, "
    "so that these are other draws of the same model, not errors"
)


def pipeline_deviation(
    pipeline: Any, model: DiT, autoencoder: Autoencoder, sampling: Sampling, *, listen: Listen = unheard
) -> dict[str, Any]:
    """Mean and largest difference, in levels of 8 bits, between `pipeline` and each of our samplers it could stand for.

    Args:
        pipeline: a `DiTPipeline` with the weights of `model`.
        model: what was exported.
        autoencoder: the one in the pipeline.
        sampling: gives steps (at most 50 are used), guidance scale and seed; the pipeline can do DDIM alone.
        listen: who hears how many images are drawn.
    """
    steps = min(sampling.num_inference_steps, _MOST_STEPS)
    scale, seed = sampling.guidance_scale, sampling.seed
    used = Sampling(sampler="ddim", num_inference_steps=steps, guidance_scale=scale, seed=seed)
    labels = torch.arange(_NUM_IMAGES) % model.config.num_classes
    comparisons = _comparisons(model, used)
    progress = listen(_NUM_IMAGES * (1 + len(comparisons)))
    theirs = _pipeline_images(pipeline, labels, used, progress)
    differences = []
    for number, (ours, why) in enumerate(comparisons, start=1):
        latents = sample_latents(model, labels, ours, progress=after(_NUM_IMAGES * number, progress))
        images = autoencoder.decode(latents).astype(np.int64)
        distance = np.abs(theirs - images)
        own = {"sampler": ours.sampler, "guided_channels": ours.guided_channels or model.config.in_channels}
        figures = {"mean_levels": round(float(distance.mean()), 4), "max_levels": int(distance.max())}
        differences.append({"own_sampler": own, **figures, "why": why})
    return {
        "what": "8-bit levels between images of DiTPipeline and of difftune's sampler: same noise, labels and settings",
        "settings": {"sampler": used.sampler, "timestep_spacing": "trailing", "dtype": "float32", **_stated(used)},
        "labels": labels.tolist(),
        "null_label": "row 1000, where the pipeline looks for it whatever the table; rows without a class are copies",
        "differences": differences,
    }


def _stated(used: Sampling) -> dict[str, Any]:
    return {name: getattr(used, name) for name in ("num_inference_steps", "guidance_scale", "seed")}


def _comparisons(model: DiT, used: Sampling) -> list[tuple[Sampling, str]]:
    """Our samplers beside the pipeline, each with the reason of its difference."""
    original = model.config.timestep_frequencies == "original"
    found = [(used, f"{_ORDER}; {_FREQUENCIES}" if original else _ORDER)]
    if used.guidance_scale != 1 and model.config.in_channels > _DIT_GUIDED_CHANNELS:
        found.append((replace(used, guided_channels=_DIT_GUIDED_CHANNELS), _CHANNELS))
    if model.config.learn_sigma:
        found.append((replace(used, sampler="ddpm"), _VARIANCE))
    return found


def _pipeline_images(
    pipeline: Any, labels: Tensor, sampling: Sampling, progress: Progress
) -> Int64[np.ndarray, "n s s 3"]:
    """Images from the noise that our sampler begins with."""
    pipeline.set_progress_bar_config(disable=True)
    stepped, passes = of_batch(progress, 0, len(labels)), count(1)
    hook = pipeline.transformer.register_forward_hook(lambda *_: stepped(next(passes), sampling.num_inference_steps))
    images: np.ndarray = pipeline(
        class_labels=labels.tolist(),
        guidance_scale=sampling.guidance_scale,
        generator=[generator(sampling.seed, "sample", i) for i in range(len(labels))],
        num_inference_steps=sampling.num_inference_steps,
        output_type="np",
    ).images
    hook.remove()
    return (images * 255).round().astype(np.int64)
