"""A Gaussian mixture, whose exact score is known in closed form: the truth that loss and sampler must agree with."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from difftune_core.diffusion.sampler import Sampling, sample_latents
from difftune_core.diffusion.schedule import NoiseSchedule, linear_betas
from difftune_core.models.dit import DiT, DiTConfig
from difftune_core.objectives.denoising import denoising_loss, noised

MEANS = torch.tensor([[-1.5, 0.5], [1.0, -0.5]])
WEIGHTS = torch.tensor([0.3, 0.7])
WIDTH = 0.2
CONFIG = DiTConfig(
    input_size=1, patch_size=1, in_channels=2, hidden_size=8, depth=0, num_heads=1, num_classes=1, learn_sigma=False
)


class ExactDenoiser(DiT):
    """The noise that is expected given x_t, plus trainable errors that are zero."""

    def __init__(self) -> None:
        super().__init__(CONFIG)
        self.kept = NoiseSchedule(linear_betas(1000)).alphas_cumprod.double()
        self.errors = nn.Parameter(torch.zeros(4, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:  # noqa: ARG002  # the mixture has no classes
        point = x.flatten(1).double()
        kept = self.kept[t.long()][:, None]
        variance = kept * WIDTH**2 + 1 - kept
        offsets = kept[..., None].sqrt() * MEANS.double() - point[:, None]
        logits = WEIGHTS.double().log() - offsets.square().sum(2) / (2 * variance)
        score = (logits.softmax(1)[..., None] * offsets).sum(1) / variance
        noise = -(1 - kept).sqrt() * score
        features = torch.stack([torch.ones_like(point), point, point * t[:, None] / 1000, point**3], dim=-1)
        return (noise + features @ self.errors).reshape(x.shape).float()


def draw_mixture(count: int, stream: torch.Generator) -> Tensor:
    component = torch.multinomial(WEIGHTS, count, replacement=True, generator=stream)
    return (MEANS[component] + WIDTH * torch.randn(count, 2, generator=stream))[..., None, None]


def test_the_objective_has_no_gradient_at_the_exact_score(schedule: NoiseSchedule) -> None:
    """Each component of the mean gradient is zero within four standard errors over 100 batches."""
    stream, model = torch.Generator().manual_seed(0), ExactDenoiser()
    gradients = []
    for _ in range(100):
        x0 = draw_mixture(1000, stream)
        t = torch.randint(1000, (1000,), generator=stream)
        batch = noised(x0, torch.randn(x0.shape, generator=stream), t, schedule)
        loss = denoising_loss(model(batch.x_t, t.float(), torch.zeros_like(t)), batch, schedule).mean()
        (gradient,) = torch.autograd.grad(loss, [model.errors])
        gradients.append(gradient)
    stacked = torch.stack(gradients)
    error = stacked.std(0) / math.sqrt(len(stacked))
    assert (stacked.mean(0).abs() < 4 * error).all()


def test_a_wrong_score_has_a_gradient(schedule: NoiseSchedule) -> None:
    """Negative control of the test above."""
    stream, model = torch.Generator().manual_seed(0), ExactDenoiser()
    with torch.no_grad():
        model.errors[0] = 0.1
    x0 = draw_mixture(20_000, stream)
    t = torch.randint(1000, (20_000,), generator=stream)
    batch = noised(x0, torch.randn(x0.shape, generator=stream), t, schedule)
    loss = denoising_loss(model(batch.x_t, t.float(), torch.zeros_like(t)), batch, schedule).mean()
    (gradient,) = torch.autograd.grad(loss, [model.errors])
    assert gradient[0] > 0.1


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_sampler_carries_noise_to_the_mixture(sampler: str) -> None:
    labels = torch.full((3000,), CONFIG.num_classes)
    sampling = Sampling(sampler=sampler, num_inference_steps=100)
    points = sample_latents(ExactDenoiser(), labels, sampling).flatten(1)
    nearest = torch.cdist(points, MEANS).argmin(1)
    share = (nearest == 0).double().mean()
    assert abs(float(share) - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 3000)
    for k, mean in enumerate(MEANS):
        mine = points[nearest == k]
        assert torch.allclose(mine.mean(0), mean, atol=0.03)
        assert torch.allclose(mine.std(0), torch.full((2,), WIDTH), rtol=0.15)
