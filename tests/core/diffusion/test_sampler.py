from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any, get_args

import pytest
import torch

from difftune_core.diffusion.sampler import Sampling, sample_latents
from difftune_core.diffusion.solvers import make_scheduler
from difftune_core.hooks import TaskError
from difftune_core.models.dit import DiT
from difftune_core.sampling_config import SAMPLERS, ProcessName, Sampler

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
