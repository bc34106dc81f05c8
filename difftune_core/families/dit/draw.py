"""Latents of a DiT's classes: its side of the reverse loop. Shapes: n images, c latent channels, h w their size."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from difftune_core.diffusion.denoisers import Condition, Denoiser
from difftune_core.diffusion.process import make_process
from difftune_core.diffusion.reverse import Away, Chain, Sampling, reverse
from difftune_core.diffusion.solvers import make_solver
from difftune_core.hooks import TaskError
from difftune_core.interruption import Progress
from difftune_core.networks.dit import DiT


class UnderNull:
    """A DiT under its null label, whatever label is asked for."""

    def __init__(self, denoise: Denoiser, null_label: int) -> None:
        """Wrap `denoise`, whose null label this is."""
        self._denoise, self._null_label = denoise, null_label

    def __call__(self, x: Tensor, t: Tensor, labels: Condition) -> Tensor:
        """Give the null branch's output."""
        assert isinstance(labels, Tensor), "one label an image"
        return self._denoise(x, t, torch.full_like(labels, self._null_label))


def sample_latents(
    model: DiT,
    labels: Int[Tensor, " n"],
    sampling: Sampling,
    *,
    source: DiT | None = None,
    denoise: Denoiser | None = None,
    source_denoise: Denoiser | None = None,
    first_index: int = 0,
    progress: Progress | None = None,
) -> Float[Tensor, "n c h w"]:
    """Draw latents of images `first_index ...` with these labels; `progress` hears how many are done.

    Labels equal to the null label, or a guidance scale of 1, need one pass a step instead of two. Every step is an
    interruption point.

    Args:
        model: the tuned model, whose anatomy and label table count.
        labels: of the images.
        sampling: how.
        source: the pre-trained model, needed for guidance `domain`.
        denoise: takes the passes in place of `model`: a wrapper around it.
        source_denoise: likewise in place of `source`.
        first_index: number of the first image.
        progress: listener.

    Raises:
        Stopped: somebody asked for a stop.
        TaskError: `label_outside_table`, a label that the table has no row for.
    """
    _check_labels(labels, model.null_label)
    denoise, null_model = denoise or model, model
    apart = denoise
    if sampling.guidance == "domain":
        assert source is not None, "domain guidance needs the source model"
        apart, null_model = source_denoise or source, source
    null = torch.full_like(labels, null_model.null_label)
    away = Away(null, labels != model.null_label, apart) if sampling.is_guided else None
    return reverse(denoise, labels, chain_of(model), sampling, away=away, first_index=first_index, progress=progress)


def _check_labels(labels: Int[Tensor, " n"], null_label: int) -> None:
    outside = labels[(labels < 0) | (labels > null_label)]
    if len(outside):
        message = f"label {int(outside[0])} is outside the table: 0 to {null_label}, the last of them null"
        raise TaskError("label_outside_table", message, "labels")


def chain_of(model: DiT) -> Chain:
    """Describe a DiT to the reverse loop."""
    config = model.config
    return Chain(
        process=make_process(config),
        make_solver=partial(make_solver, config=config),
        shape=(config.in_channels, config.input_size, config.input_size),
        device=model.pos_embed.device,
    )
