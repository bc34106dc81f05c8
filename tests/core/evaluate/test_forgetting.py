"""What the loss on the base model's images is made of: every image with noise and times of its own in every bin."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from difftune_core.data.latents import LatentSet
from difftune_core.diffusion.process import DDPM
from difftune_core.evaluate.forgetting import NUM_BINS, loss_by_t

COUNT = 600  # more than two of its batches


def images(count: int = COUNT) -> LatentSet:
    """All of them the same picture, so that what differs is the noise."""
    mean = torch.zeros(1, count, 4, 4, 4).half()
    return LatentSet(mean, torch.zeros_like(mean), torch.zeros(count, dtype=torch.long), digest="zeros")


def seen(process: DDPM, *, seed: int, count: int = COUNT) -> tuple[list[Tensor], list[Tensor]]:
    """What a network is shown in each bin, and when."""
    shown: list[Tensor] = []
    times: list[Tensor] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        shown.append(x)
        times.append(t)
        return torch.zeros_like(x)

    loss_by_t(network, images(count), process, seed=seed)
    return by_bin(shown, count), by_bin(times, count)


def by_bin(batches: list[Tensor], count: int) -> list[Tensor]:
    return list(torch.cat(batches).split(count))


def test_no_image_has_anothers_noise(ddpm: DDPM) -> None:
    shown, times = seen(ddpm, seed=0)
    assert len(shown) == len(times) == NUM_BINS
    for number, (x, t) in enumerate(zip(shown, times, strict=True)):
        assert len(x) == COUNT
        assert t.min() >= number * 100
        assert t.max() < (number + 1) * 100
        assert len(t.unique()) > 50
        assert len(torch.unique(x.flatten(1), dim=0)) == COUNT
        directions = torch.nn.functional.normalize(x.flatten(1), dim=1)
        alike = (directions @ directions.T).fill_diagonal_(0)
        assert alike.abs().max() < 0.95, "noise of the same direction at another time is the same noise"


def test_bins_have_noise_of_their_own_and_the_seed_decides(ddpm: DDPM) -> None:
    one, again, other = (seen(ddpm, seed=seed, count=40)[0] for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    for a, b in [*zip(one, other, strict=True), *pairwise(one)]:
        assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 0.1


def test_the_loss_is_the_mean_squared_error_of_the_noise(ddpm: DDPM) -> None:
    """A network that says nothing has the noise's own variance as its error; a perfect one none."""
    assert loss_by_t(lambda x, _: torch.zeros_like(x), images(), ddpm, seed=0) == pytest.approx(
        [1.0] * NUM_BINS, rel=0.03
    )

    def perfect(x: Tensor, t: Tensor) -> Tensor:
        return x / ddpm.schedule.at("sqrt_one_minus_alphas_cumprod", t.long(), x)

    assert max(loss_by_t(perfect, images(), ddpm, seed=0)) < 1e-8
