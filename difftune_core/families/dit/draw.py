"""Latents of a DiT's classes: its side of the reverse loop. Shapes: n images, c latent channels, h w their size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from difftune_core.diffusion.denoisers import Condition, Denoiser, EndedBy, Memoised, WithoutTime, whole_steps
from difftune_core.diffusion.process import make_process
from difftune_core.diffusion.reverse import Away, Chain, Sampling, reverse
from difftune_core.diffusion.solvers import make_solver
from difftune_core.hooks import TaskError
from difftune_core.interruption import Progress
from difftune_core.networks.dit import DiT
from difftune_core.networks.dit_costs import activation_bytes
from difftune_core.runtime.at_once import images_at_once

_BATCH = 128


class UnderNull:
    """A DiT under its null label, whatever label is asked for."""

    def __init__(self, denoise: Denoiser, null_label: int) -> None:
        """Wrap `denoise`, whose null label this is."""
        self._denoise, self._null_label = denoise, null_label
        self._null = torch.empty(0)

    def __call__(self, x: Tensor, t: Tensor, labels: Condition) -> Tensor:
        """Give the null branch's output."""
        assert isinstance(labels, Tensor), "one label an image"
        if len(self._null) != len(labels):
            self._null = torch.full_like(labels, self._null_label)  # one tensor for all steps: `AtOneTime` knows it
        return self._denoise(x, t, self._null)


class AtOneTime:
    """A DiT in a reverse process, where all images are at one time: what is told to blocks is computed once a label."""

    def __init__(self, model: DiT) -> None:
        """Wrap `model`."""
        self._model = model
        self._labels: Tensor | None = None
        self._known: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor, t: Tensor, labels: Condition) -> Tensor:
        """Give what the model gives; the labels of a batch are looked through once and not in every step."""
        assert isinstance(labels, Tensor), "one label an image"
        if self._known is None or labels is not self._labels:
            self._labels, self._known = labels, torch.unique(labels, return_inverse=True)
        return self._model.at_one_time(x, t[:1], *self._known)


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
    ways: Ways | None = None,
) -> Float[Tensor, "n c h w"]:
    """Draw latents of images `first_index ...` with these labels.

    Labels equal to the null label, or a guidance scale of 1, need one pass a step. Every step is an interruption point.

    Args:
        model: the tuned model, whose anatomy and label table count.
        labels: of the images.
        sampling: how.
        source: the pre-trained model, needed for guidance `domain` and for a hand-over.
        denoise: takes the passes in place of `model`: a wrapper around it.
        source_denoise: likewise in place of `source`.
        first_index: number of the first image.
        progress: hears how many are done.
        ways: how passes are made, where nothing takes them in place of `model`; None: as suits its device.

    Raises:
        TaskError: `label_outside_table`.
    """
    of_class = _are_classes(labels, model.null_label)
    untimed = None if denoise else untimed_passes(model, source, sampling, of_class)
    denoise = denoise or handed_over(model, source, sampling, of_class)
    denoise, apart, null = _passes(model, denoise, ways := ways or Ways.of(model))
    if sampling.guidance == "domain":
        apart, null = _of_source(source, source_denoise, is_joint=ways.is_joint)
    away = Away(torch.full_like(labels, null), of_class, apart) if sampling.is_guided else None
    run = partial(reverse, denoise, labels, chain_of(model, ways.batch), sampling, away=away, untimed=untimed)
    return run(first_index=first_index, progress=progress)


def _of_source(source: DiT | None, denoise: Denoiser | None, *, is_joint: bool) -> tuple[Denoiser, int]:
    """Return who is asked for the source's null label, and which that is."""
    assert source is not None, "domain guidance needs the source model"
    return denoise or (AtOneTime(source) if is_joint else source), source.null_label


def untimed_passes(model: DiT, source: DiT | None, sampling: Sampling, of_class: Tensor) -> Denoiser | None:
    """Return what Noise Awareness Guidance leads away from: the model told no time; None without it.

    In steps that are handed over it is what the source model says, so that nothing is guided there: that one was not
    trained without time.
    """
    if sampling.noise_guidance_scale == 1 or not bool(of_class.any()):
        return None
    untimed = WithoutTime(model)
    return handed_over(model, source, sampling, of_class, first=untimed) or untimed


def handed_over(
    model: DiT, source: DiT | None, sampling: Sampling, of_class: Tensor, *, first: Denoiser | None = None
) -> Denoiser | None:
    """Wrap a model (or `first` for it) whose last steps the source takes under its null label, where guidance is none.

    None where nothing is handed over: by `sampling`, or because no image is of a class.
    """
    if not (sampling.handover and bool(of_class.any())):
        return None
    assert source is not None, "a hand-over needs the source model"
    times = torch.unique(make_solver(sampling.sampler, sampling.num_inference_steps, model.config).times)
    count = whole_steps(sampling.handover, len(times))
    if count == 0:
        return None
    _, told = make_process(model.config).network_inputs(torch.zeros(len(times), 1, 1, 1), times)
    between = float(told[count - 1 : count + 1].mean())  # rounding does not decide whose a step is
    return EndedBy(first or model, UnderNull(Memoised(source, of_one_step=True), source.null_label), between)


def _passes(model: DiT, denoise: Denoiser | None, ways: Ways) -> tuple[Denoiser, Denoiser | None, int]:
    """Return who is asked for a class, who for the null label (None: both at once), and the null label."""
    if denoise is None and ways.is_joint:
        return AtOneTime(model), None, model.null_label
    return denoise or model, denoise or model, model.null_label


def _are_classes(labels: Int[Tensor, " n"], null_label: int) -> Tensor:
    """Return which are no null label, none being outside the table."""
    outside = labels[(labels < 0) | (labels > null_label)]
    if len(outside):
        message = f"label {int(outside[0])} is outside the table: 0 to {null_label}, the last of them null"
        raise TaskError("label_outside_table", message, "labels")
    return labels != null_label


@dataclass(frozen=True)
class Ways:
    """How the passes of a reverse process are made: what changes images by rounding alone."""

    is_joint: bool
    """Whether both branches of guidance go in one pass, and what depends on time and label computed once for each
    label."""
    batch: int
    """Images that are drawn together."""

    @classmethod
    def of(cls, model: DiT) -> Ways:
        """Choose large passes on a GPU; on a CPU a pass for each branch, which is no slower and takes half the memory.

        Images of a CPU are so the same bit for bit as those in its caches.
        """
        device = model.pos_embed.device
        is_joint = device.type == "cuda"
        return cls(is_joint, images_at_once(activation_bytes(model.config) * (1 + is_joint), device, most=_BATCH))


def chain_of(model: DiT, batch: int = _BATCH) -> Chain:
    """Describe a DiT to the reverse loop, which draws `batch` images together."""
    config = model.config
    return Chain(
        process=make_process(config),
        make_solver=partial(make_solver, config=config),
        shape=(config.in_channels, config.input_size, config.input_size),
        device=model.pos_embed.device,
        batch=batch,
    )
