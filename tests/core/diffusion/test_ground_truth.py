"""A Gaussian mixture, whose exact denoiser is known in closed form: the truth that losses and samplers must meet."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from difftune_core.config.sampling import SAMPLERS, Sampler
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.dit.draw import sample_latents
from difftune_core.objectives.denoising import denoising_loss, noised
from difftune_core.objectives.laws import mse_weight
from tests.core.diffusion.mixture import MEANS, WIDTH, ExactDenoiser, anatomy, draw_mixture

MODELS: list[dict[str, object]] = [
    {"prediction": "epsilon"},
    {"prediction": "x0"},
    {"prediction": "v"},
    {"process": "flow"},
    {"process": "edm", "sigma_data": 1.0},
]
CHAINS = [(fields, sampler) for fields in MODELS for sampler in SAMPLERS[anatomy(**fields).process]]
STEPS = {"ddim": 100, "ddpm": 100, "euler": 100}  # of the others, which are of order 2, 50


def gradient(model: ExactDenoiser, weighting: str, count: int, stream: torch.Generator) -> Tensor:
    """Of the mean loss over `count` points, for each of the model's errors."""
    x0 = draw_mixture(count, stream)
    t = model.process.draw_times(count, stream)
    batch = noised(x0, torch.randn(x0.shape, generator=stream), t, model.process)
    output = model(*model.process.network_inputs(batch.x_t, t), torch.zeros(count, dtype=torch.long))
    weight = mse_weight(weighting, model.process, t)
    (found,) = torch.autograd.grad(denoising_loss(output, batch, model.process, weight).mean(), [model.errors])
    return found


@pytest.mark.parametrize("weighting", ["none", "min_snr", "p2"])
@pytest.mark.parametrize("fields", MODELS, ids=str)
def test_the_objective_has_no_gradient_at_the_exact_denoiser(fields: dict[str, object], weighting: str) -> None:
    """Each component of the mean gradient is zero within four standard errors over 100 batches."""
    stream, model = torch.Generator().manual_seed(0), ExactDenoiser(**fields)
    stacked = torch.stack([gradient(model, weighting, 1000, stream) for _ in range(100)])
    error = stacked.std(0) / math.sqrt(len(stacked))
    assert (stacked.mean(0).abs() < 4 * error).all()


@pytest.mark.parametrize("fields", MODELS, ids=str)
def test_a_wrong_denoiser_has_a_gradient(fields: dict[str, object]) -> None:
    """Negative control of the test above."""
    model = ExactDenoiser(**fields)
    with torch.no_grad():
        model.errors[0] = 0.1
    assert gradient(model, "none", 20_000, torch.Generator().manual_seed(0))[0] > 0.1


def misses(points: Tensor) -> list[str]:
    """In what the points differ from the mixture: shares of the modes (4 standard errors), means, widths."""
    nearest = torch.cdist(points, MEANS).argmin(1)
    share = float((nearest == 0).double().mean())
    found = [] if abs(share - 0.3) < 4 * math.sqrt(0.3 * 0.7 / len(points)) else [f"share {share}"]
    for k, mean in enumerate(MEANS):
        mine = points[nearest == k]
        if not torch.allclose(mine.mean(0), mean, atol=0.03):
            found.append(f"mean {mine.mean(0).tolist()}")
        if not torch.allclose(mine.std(0), torch.full((2,), WIDTH), rtol=0.15):
            found.append(f"width {mine.std(0).tolist()}")
    return found


def drawn(model: ExactDenoiser, sampler: Sampler, steps: int | None = None) -> Tensor:
    labels = torch.full((1500,), model.null_label)
    sampling = Sampling(sampler=sampler, num_inference_steps=steps or STEPS.get(sampler, 50))
    return sample_latents(model, labels, sampling).flatten(1)


@pytest.mark.parametrize(("fields", "sampler"), CHAINS, ids=str)
def test_a_sampler_carries_noise_to_the_mixture(fields: dict[str, object], sampler: Sampler) -> None:
    assert not misses(drawn(ExactDenoiser(**fields), sampler))


@pytest.mark.parametrize("variance", [-1.0, 1.0])
def test_a_learned_variance_carries_noise_to_the_mixture(variance: float) -> None:
    assert not misses(drawn(ExactDenoiser(variance), "ddpm", steps=100))


@pytest.mark.parametrize("fields", MODELS, ids=str)
def test_a_wrong_denoiser_misses_the_mixture(fields: dict[str, object]) -> None:
    """Negative control of the test above."""
    model = ExactDenoiser(**fields)
    with torch.no_grad():
        model.errors[0] = 0.1
    assert misses(drawn(model, SAMPLERS[model.config.process][0]))
