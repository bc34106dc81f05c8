"""The reverse process: latents from noise, by any denoiser, diffusers' schedulers and classifier-free guidance.

Every image has its own random stream, a function of (seed, index), so that it does not depend on its batch, and the
same index starts from the same noise whatever the network. Shapes: b images, c latent channels, h w their size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from difftune_core.config.sampling import Guidance, Sampler
from difftune_core.diffusion.denoisers import Condition, Denoiser, joined, on_device, rows_of
from difftune_core.diffusion.process import Process
from difftune_core.diffusion.solvers import Solver
from difftune_core.interruption import Progress, of_batch
from difftune_core.runtime.rng import generator


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How images are drawn; part of every figure's recipe."""

    sampler: Sampler = "ddim"
    num_inference_steps: int = 50
    guidance_scale: float = 1.5
    guidance: Guidance = "cfg"
    """Whose null branch is guided away from: the model's own, the source model's (Domain Guidance, ICLR 2025), or
    none's, whatever the scale."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Noise levels as shares of the chain, t/T, between which guidance is on (Kynkaanniemi et al. 2024)."""
    guided_channels: int | None = None
    """Guide the first channels only; DiT's published sampler guides 3 of 4. None: all."""
    seed: int = 0
    handover: float = 0.0
    """Share of the chain, the end at the data, that the source model runs without a class (Diff-Tuning, Fig. 1)."""
    noise_guidance_scale: float = 1.0
    """Noise Awareness Guidance (arXiv 2510.12497): away from what the network says without being told the time."""

    @classmethod
    def of(cls, config: object) -> Sampling:
        """Sampling as a config states it; what it leaves open is at its default."""
        names = [field.name for field in fields(cls) if hasattr(config, field.name)]
        return cls(**{name: getattr(config, name) for name in names})

    def told(self) -> dict[str, Any]:
        """Return the sampling as a recipe has it; what came later only where it is used, as before there was any."""
        later = {"handover": 0.0, "noise_guidance_scale": 1.0}
        return {name: value for name, value in asdict(self).items() if later.get(name) != value}

    @property
    def is_guided(self) -> bool:
        """Whether guidance changes anything for labels that are classes."""
        return self.guidance != "none" and self.guidance_scale != 1


@dataclass(frozen=True)
class Chain:
    """What the loop must know of a model: how noise entered in its training, and the shape of its latents."""

    process: Process
    make_solver: Callable[[Sampler, int], Solver]
    """A fresh solver for a sampler and a number of steps."""
    shape: tuple[int, int, int]
    """Channels, height and width of a latent."""
    device: torch.device
    batch: int = 128
    """Images that are drawn together."""


@dataclass(frozen=True)
class Away:
    """What guidance leads away from."""

    condition: Condition
    """A row for each image."""
    guided: Bool[Tensor, " n"]
    """Whether guidance means anything for an image; a batch without one takes one pass a step."""
    denoise: Denoiser | None = None
    """The denoiser that answers for this condition. None: the denoiser itself, in one pass with what is drawn."""

    def rows(self, rows: slice) -> Away:
        """Return the same guidance for some of the images."""
        return Away(rows_of(self.condition, rows), self.guided[rows], self.denoise)


@torch.inference_mode()
def reverse(
    denoise: Denoiser,
    condition: Condition,
    chain: Chain,
    sampling: Sampling,
    *,
    away: Away | None = None,
    untimed: Denoiser | None = None,
    first_index: int = 0,
    progress: Progress | None = None,
) -> Float[Tensor, "n c h w"]:
    """Draw the latents of images `first_index ...`, a row of `condition` each.

    Args:
        denoise: the network, or a wrapper that remembers its passes or hands its last steps over.
        condition: what is drawn.
        chain: what the model was trained on.
        sampling: solver, steps, seed, and scale and interval of the guidance.
        away: what guidance leads away from; None draws without guidance.
        untimed: what Noise Awareness Guidance leads away from; None draws without it.
        first_index: number of the first image, which chooses its noise.
        progress: hears how many images are done; every step is an interruption point.

    Raises:
        Stopped: a stop was requested.
    """
    count = len(condition if isinstance(condition, Tensor) else condition[0])
    done: list[Tensor] = []
    for start in range(0, count, chain.batch):
        rows = slice(start, min(start + chain.batch, count))
        streams = [generator(sampling.seed, "sample", first_index + i) for i in range(rows.start, rows.stop)]
        guide_away = away.rows(rows) if away is not None and bool(away.guided[rows].any()) else None
        stepped = of_batch(progress, start, len(streams))
        told = on_device(rows_of(condition, rows), chain.device)
        steps = _Steps(denoise, told, chain, sampling, away=guide_away, untimed=untimed)
        done.append(steps.run(streams, stepped).cpu())
    return torch.cat(done)


class _Steps:
    """The steps of one batch."""

    def __init__(
        self,
        denoise: Denoiser,
        condition: Condition,
        chain: Chain,
        sampling: Sampling,
        *,
        away: Away | None,
        untimed: Denoiser | None,
    ) -> None:
        self._denoise, self._condition, self._chain, self._sampling = denoise, condition, chain, sampling
        self._untimed = untimed
        self._null = None if away is None else on_device(away.condition, chain.device)
        self._apart = None if away is None else away.denoise
        self._both = None if self._null is None or self._apart is not None else joined(self._null, condition)

    def run(self, streams: list[torch.Generator], stepped: Callable[[int, int], None]) -> Tensor:
        """Bring noise to a clean latent."""
        chain, sampling = self._chain, self._sampling
        x = torch.stack([torch.randn(chain.shape, generator=stream) for stream in streams]).to(chain.device)
        solver = chain.make_solver(sampling.sampler, sampling.num_inference_steps)
        x = x * solver.initial_scale
        is_ancestral = sampling.sampler == "ddpm"
        extra: dict[str, Any] = {"generator": streams} if is_ancestral else {}
        for step, (timestep, t) in enumerate(zip(solver.scheduler.timesteps, solver.times, strict=True), start=1):
            output = self._output(x, t)
            if not is_ancestral:  # which alone needs a learned variance, behind the prediction
                output = output[:, : chain.shape[0]]
            reached = solver.scheduler.step(output, timestep, x, **extra)
            x = reached.prev_sample
            stepped(step, len(solver.times))
        return reached.pred_original_sample if is_ancestral else x  # a chain of one step would add noise

    def _output(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the denoiser's output at time `t` in float32, guided where guidance is on."""
        inputs = self._chain.process.network_inputs(x, t.expand(len(x)).to(x.device))
        output, guided = self._of_class(inputs, t)
        if self._untimed is None:
            return guided
        untimed = self._untimed(*inputs, self._condition).float()
        return aware_of_noise(guided, output, untimed, self._sampling, self._chain.shape[0])

    def _of_class(self, inputs: tuple[Tensor, Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
        """The denoiser's output, and the guided one."""
        low, high = self._sampling.guidance_interval
        is_on = self._null is not None and bool(low <= self._chain.process.level(t[None]) <= high)
        if self._null is None:
            output = self._denoise(*inputs, self._condition).float()
            return output, output
        if self._apart is None:
            assert self._both is not None, "made at the start"
            shown, told = (torch.cat([part, part]) for part in inputs)
            null, output = self._denoise(shown, told, self._both).float().chunk(2)
        else:
            output = self._denoise(*inputs, self._condition).float()
            null = self._apart(*inputs, self._null).float() if is_on else output
        return output, guide(output, null, self._sampling, self._chain.shape[0]) if is_on else output


def aware_of_noise(
    guided: Float[Tensor, "b out h w"],
    output: Float[Tensor, "b out h w"],
    untimed: Float[Tensor, "b out h w"],
    sampling: Sampling,
    in_channels: int,
) -> Float[Tensor, "b out h w"]:
    """Add Noise Awareness Guidance, (s - 1) (e_class - e_class without time), to an output that may be guided.

    It acts on the channels that guidance acts on; a learned variance is the class branch's own.
    """
    channels = min(sampling.guided_channels or in_channels, in_channels)
    shift = (sampling.noise_guidance_scale - 1) * (output - untimed)[:, :channels]
    return torch.cat([guided[:, :channels] + shift, guided[:, channels:]], dim=1)


def guide(
    output: Float[Tensor, "b out h w"], null: Float[Tensor, "b out h w"], sampling: Sampling, in_channels: int
) -> Float[Tensor, "b out h w"]:
    """e_null + s (e_class - e_null) on the prediction, or on its first channels; the rest is the class branch's own.

    Every kind of prediction is linear in the noise, so guiding it guides the noise. A learned variance, behind the
    `in_channels` of the prediction, is not guided.
    """
    channels = min(sampling.guided_channels or in_channels, in_channels)
    base = null[:, :channels]
    noise = base + sampling.guidance_scale * (output[:, :channels] - base)
    return torch.cat([noise, output[:, channels:]], dim=1)
