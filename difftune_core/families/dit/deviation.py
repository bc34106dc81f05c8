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
from difftune_core.networks.dit import DiT, DiTConfig
from difftune_core.networks.dit_costs import pass_operations
from difftune_core.runtime.rng import generator

_NUM_IMAGES, _FEWEST = 8, 2
_MOST_STEPS = 50  # more would change the figure little and the time much
_OPERATIONS = {"cpu": 3e12, "cuda": 2e15}
"""What the comparison may cost, in floating-point operations: about half a minute."""
_FEW = "2 images in 2 steps by the pipeline's own sampler alone: this network takes long on this device"
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
    pipeline: Any,
    model: DiT,
    autoencoder: Autoencoder,
    sampling: Sampling,
    *,
    source: DiT | None = None,
    listen: Listen = unheard,
) -> dict[str, Any]:
    """Mean and largest difference, in levels of 8 bits, between `pipeline` and each of our samplers it could stand for.

    Args:
        pipeline: a `DiTPipeline` with the weights of `model`.
        model: what was exported.
        autoencoder: the one in the pipeline.
        sampling: gives steps (at most 50 are used), guidance scale, seed and hand-over; the pipeline can do DDIM alone.
        source: the base model, where `sampling` hands over to it.
        listen: who hears how many images are drawn.
    """
    used, count, comparisons = extent(model.config, sampling, model.pos_embed.device)
    labels = torch.arange(count) % model.config.num_classes
    progress = listen(count * (1 + len(comparisons)))
    theirs = _pipeline_images(pipeline, labels, used, progress)
    differences = []
    for number, (ours, why) in enumerate(comparisons, start=1):
        latents = sample_latents(model, labels, ours, source=source, progress=after(count * number, progress))
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
        **({"bounded": _FEW} if count < _NUM_IMAGES else {}),
    }


def extent(
    config: DiTConfig, sampling: Sampling, device: torch.device
) -> tuple[Sampling, int, list[tuple[Sampling, str]]]:
    """Return how far the comparison goes: how it is sampled, of how many images, and beside which of our samplers.

    It is a check of an export and must not take minutes: where it would, two images in two steps show whether every
    weight, label and time stands where the pipeline looks for it. There are never more steps than were asked for.
    """
    used = Sampling(
        sampler="ddim",
        num_inference_steps=min(sampling.num_inference_steps, _MOST_STEPS),
        guidance_scale=sampling.guidance_scale,
        seed=sampling.seed,
        handover=sampling.handover,
    )
    comparisons = _comparisons(config, used)
    cost = _NUM_IMAGES * (1 + len(comparisons)) * 2 * used.num_inference_steps * pass_operations(config)
    if cost <= _OPERATIONS.get(device.type, _OPERATIONS["cpu"]):
        return used, _NUM_IMAGES, comparisons
    fewer = replace(used, num_inference_steps=min(used.num_inference_steps, _FEWEST))
    return fewer, _FEWEST, _comparisons(config, fewer)[:1]


def _stated(used: Sampling) -> dict[str, Any]:
    names = ("num_inference_steps", "guidance_scale", "seed", *(["handover"] if used.handover else []))
    return {name: getattr(used, name) for name in names}


def _comparisons(config: DiTConfig, used: Sampling) -> list[tuple[Sampling, str]]:
    """Our samplers beside the pipeline, each with the reason of its difference."""
    original = config.timestep_frequencies == "original"
    found = [(used, f"{_ORDER}; {_FREQUENCIES}" if original else _ORDER)]
    if used.guidance_scale != 1 and config.in_channels > _DIT_GUIDED_CHANNELS:
        found.append((replace(used, guided_channels=_DIT_GUIDED_CHANNELS), _CHANNELS))
    if config.learn_sigma:
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
