"""The loop knows no network: a function that knows the clean image is led to it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from difftune_core.config.sampling import Sampler
from difftune_core.diffusion.denoisers import Condition, HandOver, Memoised
from difftune_core.diffusion.process import NoiseConfig, make_process
from difftune_core.diffusion.reverse import Away, Chain, Sampling, reverse
from difftune_core.diffusion.solvers import make_solver

NOISE = NoiseConfig(learn_sigma=False)
PROCESS = make_process(NOISE)
CHAIN = Chain(PROCESS, partial(make_solver, config=NOISE), (1, 2, 2), torch.device("cpu"), batch=2)
CLEAN = torch.linspace(-1, 1, 12).reshape(3, 1, 2, 2)
EVERYWHERE = torch.ones(3, dtype=torch.bool)


def knows(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
    """The noise that leads from `x` to the image in the condition."""
    clean = condition if isinstance(condition, Tensor) else condition[0]
    at = t.long()
    signal = PROCESS.add_noise(clean, torch.zeros_like(clean), at)
    scale = PROCESS.add_noise(torch.zeros_like(clean), torch.ones_like(clean), at)
    return (x - signal) / scale


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmsolver++", "unipc"])
def test_every_chain_ends_at_the_clean_image(sampler: Sampler, steps: int) -> None:
    sampling = Sampling(sampler=sampler, num_inference_steps=steps, guidance="none")
    assert torch.allclose(reverse(knows, CLEAN, CHAIN, sampling), CLEAN, atol=1e-4)
    assert torch.allclose(reverse(knows, (CLEAN, CLEAN), CHAIN, sampling), CLEAN, atol=1e-4)


def test_guidance_leads_away_by_its_scale_in_one_pass_or_two() -> None:
    sampling = Sampling(num_inference_steps=4, guidance_scale=3.0)
    zero = torch.zeros_like(CLEAN)
    joint, apart = (
        reverse(knows, CLEAN, CHAIN, sampling, away=Away(zero, EVERYWHERE, other)) for other in (None, knows)
    )
    assert torch.allclose(joint, 3 * CLEAN, atol=1e-3)
    assert torch.equal(joint, apart)


def test_guidance_is_on_inside_its_interval_alone() -> None:
    asked: list[float] = []

    def listening(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        asked.append(round(float(t[0] + 1) / 1000, 2))
        return knows(x, t, condition)

    sampling = Sampling(num_inference_steps=4, guidance_scale=3.0, guidance_interval=(0.3, 0.8))
    reverse(knows, CLEAN[:2], CHAIN, sampling, away=Away(CLEAN[:2], EVERYWHERE[:2], listening))
    assert asked == [0.75, 0.5]


def test_a_chain_that_is_handed_over_ends_at_the_others_image() -> None:
    last = Memoised(lambda x, t, _: knows(x, t, -torch.ones_like(x)))
    chain = HandOver(knows, last)
    sampling = Sampling(num_inference_steps=4, guidance="none")
    first, chain_of_two = CLEAN[:2], partial(reverse, chain, CLEAN[:2], CHAIN, sampling)
    assert chain.hand_over(0.0) == 0
    assert torch.allclose(chain_of_two(), first, atol=1e-4)
    assert chain.hand_over(0.5) == 2
    assert torch.allclose(chain_of_two(), -torch.ones_like(first), atol=1e-4)
