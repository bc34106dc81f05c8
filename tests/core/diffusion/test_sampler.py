from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import Any, get_args

import numpy as np
import pytest
import torch

from difftune_core.config.sampling import SAMPLERS, ProcessName, Sampler
from difftune_core.diffusion.reverse import Sampling
from difftune_core.diffusion.solvers import make_scheduler
from difftune_core.families.dit.draw import sample_latents
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT

CHAINS = [(process, sampler) for process, samplers in SAMPLERS.items() for sampler in samplers]


def like(model: DiT, **fields: Any) -> DiT:
    """The same weights as a model of another process or prediction."""
    other = DiT(replace(model.config, **fields))
    other.load_state_dict(model.state_dict())
    return other


@pytest.mark.parametrize(("process", "sampler"), CHAINS)
def test_an_image_does_not_depend_on_its_batch(toy_model: DiT, process: ProcessName, sampler: Sampler) -> None:
    model = like(toy_model, process=process)
    sampling = Sampling(sampler=sampler, num_inference_steps=4, guidance_scale=2.0, seed=3)
    labels = torch.tensor([0, 1, 2, 0, 1])
    together = sample_latents(model, labels, sampling)
    alone = torch.cat([sample_latents(model, labels[i : i + 1], sampling, first_index=i) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-3)
    assert not torch.allclose(together[0], together[3], atol=1e-2)


def test_guidance_of_one_is_the_conditional_model(toy_model: DiT) -> None:
    labels = torch.tensor([0, 2])
    plain = sample_latents(toy_model, labels, Sampling(num_inference_steps=3, guidance_scale=1.0))
    barely = sample_latents(toy_model, labels, Sampling(num_inference_steps=3, guidance_scale=1.0 + 1e-6))
    assert torch.allclose(plain, barely, atol=1e-3)


def test_the_null_label_is_sampled_without_guidance(toy_model: DiT) -> None:
    null = torch.full((2,), toy_model.null_label)
    a, b = (sample_latents(toy_model, null, Sampling(num_inference_steps=3, guidance_scale=s)) for s in (1.0, 5.0))
    assert torch.equal(a, b)


def test_progress_counts_images(toy_model: DiT) -> None:
    heard: list[int] = []
    sample_latents(
        toy_model, torch.zeros(130, dtype=torch.long), Sampling(num_inference_steps=1), progress=heard.append
    )
    assert heard == [128, 130]


@pytest.mark.parametrize("process", SAMPLERS)
@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_a_sampler_of_another_process_is_refused(toy_model: DiT, process: ProcessName, sampler: Sampler) -> None:
    model, labels = like(toy_model, process=process), torch.tensor([0])
    sampling = Sampling(sampler=sampler, num_inference_steps=2)
    if sampler in SAMPLERS[process]:
        assert sample_latents(model, labels, sampling).isfinite().all()
        return
    with pytest.raises(TaskError) as caught:
        sample_latents(model, labels, sampling)
    assert caught.value.code == "sampler_not_for_process"
    assert repr(sampler) in str(caught.value)
    assert repr(process) in str(caught.value)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmsolver++", "unipc"])
@pytest.mark.parametrize("steps", [1, 25, 61, 103, 998, 1000])
def test_any_count_of_steps_ends_at_the_data(sampler: Sampler, steps: int) -> None:
    """Diffusers' own list has one step more, at timestep -1, for 61, 103 and 998."""
    scheduler = make_scheduler(sampler, steps)
    assert len(scheduler.timesteps) == steps
    assert scheduler.timesteps[0] == 999
    assert scheduler.timesteps[-1] >= 0
    if sampler in {"dpmsolver++", "unipc"}:
        assert len(scheduler.sigmas) == steps + 1
        assert scheduler.sigmas[-1] == 0


@pytest.mark.parametrize(("process", "sampler"), CHAINS)
def test_guidance_works_for_every_sampler(toy_model: DiT, process: ProcessName, sampler: Sampler) -> None:
    """Guided is not unguided; an interval at the noise end, or at the data's end, is neither."""
    model, labels = like(toy_model, process=process), torch.tensor([0, 1])
    images = [
        sample_latents(model, labels, Sampling(sampler=sampler, num_inference_steps=5, **given))
        for given in (
            {"guidance_scale": 1.0},
            {"guidance_scale": 3.0},
            {"guidance_scale": 3.0, "guidance_interval": (0.5, 1.0)},
            {"guidance_scale": 3.0, "guidance_interval": (0.0, 0.5)},
        )
    ]
    assert all(not torch.equal(one, other) for one, other in combinations(images, 2))


def test_ddim_starts_at_pure_noise_and_ends_at_the_data() -> None:
    scheduler = make_scheduler("ddim", 25)
    assert scheduler.timesteps[0] == 999
    assert scheduler.timesteps[-1] == 39
    assert len(scheduler.timesteps) == 25


def test_ddpm_is_respaced_as_published() -> None:
    """For every count: one float stride added up, each sum rounded, ties to the even number (ADM's published rule)."""
    differing = [steps for steps in range(2, 1001) if spaced(make_scheduler("ddpm", steps)) != added_up(steps)]
    assert differing == []
    assert spaced(make_scheduler("ddpm", 5)) == [999, 749, 500, 250, 0]
    assert spaced(make_scheduler("ddpm", 21))[10] == 499, "where the stride times ten rounds to 500"
    assert spaced(make_scheduler("ddpm", 1)) == [999]


@pytest.mark.parametrize("sampler", ["ddim", "dpmsolver++", "unipc"])
def test_other_samplers_are_spaced_as_diffusers_trailing_is(sampler: Sampler) -> None:
    """For every count: T, T - T/n, ... rounded, less one; what falls below timestep 0 is none."""
    for steps in range(1, 1001):
        published = np.round(np.arange(1000, 0, -1000 / steps)).astype(int) - 1
        assert spaced(make_scheduler(sampler, steps)) == [t for t in published.tolist() if t >= 0][:steps], steps


def spaced(scheduler: Any) -> list[int]:
    found: list[int] = scheduler.timesteps.tolist()
    return found


def added_up(steps: int) -> list[int]:
    taken, at = [], 0.0
    while len(taken) < steps:
        whole = math.floor(at)
        over = at - whole
        taken.append(whole + int(over > 0.5 or (over == 0.5 and whole % 2 == 1)))
        at += 999 / (steps - 1)
    return taken[::-1]


@pytest.mark.parametrize(("fraction", "upper"), [(-1.0, 0.0), (1.0, 1.0), (0.0, 0.5)])
def test_a_learned_variance_lies_between_the_posteriors_and_beta(fraction: float, upper: float) -> None:
    """Improved DDPM, eq. 15, over the respaced chain: log variance = v log beta + (1 - v) log posterior."""
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    scheduler, x = make_scheduler("ddpm", 50), torch.zeros(1, 4, 8, 8)
    t, before = scheduler.timesteps[20], scheduler.timesteps[21]
    beta = 1 - kept[t] / kept[before]
    posterior = beta * (1 - kept[before]) / (1 - kept[t])
    output = torch.cat([torch.zeros_like(x), torch.full_like(x, fraction)], dim=1)
    one, two = (scheduler.step(output, t, x, generator=torch.Generator().manual_seed(s)).prev_sample for s in (0, 1))
    noise = [torch.randn(x.shape, generator=torch.Generator().manual_seed(s)) for s in (0, 1)]
    variance = ((one - two) / (noise[0] - noise[1])).double().square().mean()
    torch.testing.assert_close(variance.log(), upper * beta.log() + (1 - upper) * posterior.log(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 25])
def test_the_last_step_of_ddpm_adds_no_noise(toy_model: DiT, steps: int) -> None:
    """Whatever variance the model learned: two chains that differ in the last step's noise alone would end apart."""
    ends: list[torch.Tensor] = []

    class Watched(DiT):
        def __init__(self) -> None:
            super().__init__(toy_model.config)
            self.load_state_dict(toy_model.state_dict())

        def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = super().forward(x, t, y)
            kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[int(t[0])]
            ends.append(((x - (1 - kept).sqrt() * output[:, :4]) / kept.sqrt()).float())
            return output

    labels = torch.tensor([0, 1])
    drawn = sample_latents(Watched(), labels, Sampling(sampler="ddpm", num_inference_steps=steps, guidance_scale=1.0))
    torch.testing.assert_close(drawn, ends[-1], rtol=1e-3, atol=1e-3)


def test_domain_guidance_takes_the_source_models_null_branch(toy_model: DiT) -> None:
    torch.manual_seed(1)
    source = DiT(toy_model.config)
    labels = torch.tensor([0, 1])
    settings = {"num_inference_steps": 3, "guidance_scale": 2.0}
    cfg = sample_latents(toy_model, labels, Sampling(**settings))
    domain = sample_latents(toy_model, labels, Sampling(guidance="domain", **settings), source=source)
    own = sample_latents(toy_model, labels, Sampling(guidance="domain", **settings), source=toy_model)
    assert torch.equal(own, cfg), "with itself as source it is plain guidance"
    assert not torch.allclose(domain, cfg, atol=1e-2)


def test_an_empty_guidance_interval_is_no_guidance(toy_model: DiT) -> None:
    labels = torch.tensor([0, 1])
    off = Sampling(num_inference_steps=3, guidance_scale=3.0, guidance_interval=(0.0, 0.0))
    plain = Sampling(num_inference_steps=3, guidance_scale=1.0)
    assert torch.equal(sample_latents(toy_model, labels, off), sample_latents(toy_model, labels, plain))


def test_three_guided_channels_leave_the_fourth_alone(toy_model: DiT) -> None:
    labels = torch.tensor([0, 1])
    one_step = {"num_inference_steps": 1, "guidance_scale": 3.0}
    quirk = sample_latents(toy_model, labels, Sampling(guided_channels=3, **one_step))
    full = sample_latents(toy_model, labels, Sampling(**one_step))
    plain = sample_latents(toy_model, labels, Sampling(num_inference_steps=1, guidance_scale=1.0))
    assert torch.equal(quirk[:, :3], full[:, :3])
    assert torch.equal(quirk[:, 3], plain[:, 3])
