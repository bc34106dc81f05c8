"""The loss by t on images that no method trains on: of the base model's own, how much of it is left; held out ones.

The base model's own are a reference set sampled from it with a seed of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from difftune_core.data.latents import Latents
from difftune_core.diffusion.denoisers import Condition, rows_of
from difftune_core.diffusion.process import Process
from difftune_core.interruption import interruption_point
from difftune_core.objectives.denoising import noised
from difftune_core.runtime.rng import generator

NUM_BINS = 10
LOSS_BATCH = 256
"""Images that are noised together, and at most seen together."""
Denoise = Callable[..., Tensor]
"""Gives the network's output for what it is shown and told (b c h w, b), and the condition where there is one."""
_KEY_WIDTH = 100  # a bin's number times this names its random stream; bins were 100 timesteps before


@torch.inference_mode()
def loss_by_t(
    denoise: Denoise,
    reference: Latents,
    process: Process,
    *,
    seed: int,
    condition: Condition | None = None,
    at_once: int = LOSS_BATCH,
) -> list[float]:
    """Mean squared error of a network's output on the reference set, in ten bins, the data's end first.

    A bin is a tenth of the times of training. Each image is noised once in each bin; times and noise depend on the
    seed alone, so models are compared on the same draws. With a `condition`, a row for each image, the network is
    called with the rows of its images too; it sees at most `at_once` images.
    """
    process = process.to(reference.device)

    def asked(x: Tensor, t: Tensor, first: int) -> Tensor:
        answers = []
        for rows in (slice(i, i + at_once) for i in range(0, len(x), at_once)):
            place = slice(first + rows.start, first + min(rows.stop, len(x)))
            told = () if condition is None else (rows_of(condition, place),)
            answers.append(denoise(x[rows], t[rows], *told))
        return torch.cat(answers) if len(answers) > 1 else answers[0]

    return [float(torch.cat(_bin_losses(asked, reference, process, i, seed=seed)).mean()) for i in range(NUM_BINS)]


@torch.no_grad()
def l2_from_base(trained: Mapping[str, Tensor], first: Iterable[tuple[str, Tensor]]) -> float:
    """||theta - theta0||^2 over the trained parameters, the paper's measure of forgetting ("EWC").

    Args:
        trained: theta by name.
        first: theta0, one after the other, so that no second model need stand beside the first; what is not trained
            counts for nothing. Parameters that an adapter inserted count from their first values.
    """
    found = {
        name: float((trained[name].double() - tensor.to(trained[name].device).double()).square().sum())
        for name, tensor in first
        if name in trained
    }
    return sum(found[name] for name in trained)


def _bin_losses(
    asked: Callable[[Tensor, Tensor, int], Tensor], reference: Latents, process: Process, number: int, *, seed: int
) -> list[Tensor]:
    losses = []
    share = (number / NUM_BINS, (number + 1) / NUM_BINS)
    for start in range(0, len(reference), LOSS_BATCH):
        interruption_point()
        x0 = reference.means(start, start + LOSS_BATCH).float()
        stream = generator(seed, "forgetting", number * _KEY_WIDTH, start)
        t = process.draw_times(len(x0), stream, share).to(x0.device)
        noise = torch.randn(x0.shape, generator=stream).to(x0.device)
        batch = noised(x0, noise, t, process)
        output = asked(*process.network_inputs(batch.x_t, t), start)[:, : noise.shape[1]]
        losses.append((output - process.target(x0, noise, t)).square().flatten(1).mean(1))
    return losses
