"""The loss on held-out images: of which images, under which condition, and what it costs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.data.latents import LatentSet
from difftune_core.diffusion.denoisers import Condition
from difftune_core.diffusion.process import DDPM
from difftune_core.evaluate.forgetting import NUM_BINS, loss_by_t
from difftune_core.evaluate.held_out import held_out_loss, measured_rows

COUNT = 30


@pytest.fixture
def latents() -> LatentSet:
    mean = torch.randn(1, COUNT, 4, 4, 4, generator=torch.Generator().manual_seed(0)).half()
    return LatentSet(mean, torch.zeros_like(mean), torch.arange(COUNT), digest="held out")


def test_each_image_is_shown_with_its_own_condition(latents: LatentSet, ddpm: DDPM) -> None:
    """A network that knows the image of each label can tell the noise; under the null label it cannot."""

    def knows(x: Tensor, t: Tensor, labels: Condition) -> Tensor:
        assert isinstance(labels, Tensor)
        clean = latents.mean[0, labels].float()
        signal = ddpm.schedule.at("sqrt_alphas_cumprod", t.long(), x)
        return (x - signal * clean) / ddpm.schedule.at("sqrt_one_minus_alphas_cumprod", t.long(), x)

    own = held_out_loss(knows, latents, latents.labels, ddpm, seed=0)
    others = held_out_loss(knows, latents, latents.labels.roll(1), ddpm, seed=0)
    assert own["held_out_loss"] < 1e-8
    assert others["held_out_loss"] > 0.1
    assert others["held_out_loss"] == pytest.approx(sum(others["held_out_loss_by_t"]) / NUM_BINS)
    assert len(own["held_out_loss_by_t"]) == NUM_BINS
    assert own["num_held_out"] == COUNT


def test_how_many_images_a_network_sees_at_once_changes_nothing(latents: LatentSet, ddpm: DDPM) -> None:
    sizes: list[int] = []

    def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        sizes.append(len(x))
        return x * labels[:, None, None, None] / COUNT + t[:, None, None, None] / 1000

    whole = loss_by_t(network, latents, ddpm, seed=0, condition=latents.labels)
    assert set(sizes) == {COUNT}
    sizes.clear()
    parts = loss_by_t(network, latents, ddpm, seed=0, condition=latents.labels, at_once=7)
    assert set(sizes) == {7, 2}
    assert parts == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(
    ("held_out", "drawn", "steps", "count"),
    [(10_000, 20_000, 50, 128), (20, 20_000, 50, 20), (1000, 100, 2, 8), (1000, 4, 2, 1), (2, 4, 1, 1)],
    ids=["at most 128", "those there are", "a fifth of the passes", "at least one", "of few"],
)
def test_so_many_images_that_it_costs_little(held_out: int, drawn: int, steps: int, count: int) -> None:
    config = EvaluationConfig(num_inference_steps=steps)
    rows = measured_rows(held_out, drawn, config).tolist()
    assert len(rows) == count
    assert rows == sorted(set(rows)), "spread over the whole"
    assert rows[-1] >= held_out - 2 * held_out / count
