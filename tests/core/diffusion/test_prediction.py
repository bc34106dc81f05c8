from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from difftune_core.diffusion.prediction import Output, implied_x0, output_for
from difftune_core.diffusion.process import NoiseConfig
from difftune_core.diffusion.schedule import NoiseSchedule, linear_betas
from tests.core.predictions import converted

SCHEDULE = NoiseSchedule(linear_betas(1000))
VARIANCE_PRESERVING: tuple[Output, ...] = ("epsilon", "x0", "v")
INTERPOLANT: tuple[Output, ...] = ("epsilon", "x0", "velocity")


def scales(family: tuple[Output, ...], noise_level: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Of signal and noise, shaped for one image."""
    s = torch.tensor(noise_level, dtype=torch.float64).reshape(1, 1, 1, 1)
    return (1 - s if "velocity" in family else (1 - s**2).sqrt()), s


def scales_at(t: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of DDPM in float32."""
    at, like = torch.tensor([t]), torch.empty(1, 4, 2, 2)
    names = ("sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod")
    return SCHEDULE.at(names[0], at, like), SCHEDULE.at(names[1], at, like)


def sample(seed: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    x0, noise = torch.randn(2, 1, 4, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return x0, noise


@given(
    family=st.sampled_from([VARIANCE_PRESERVING, INTERPOLANT]),
    noise_level=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**20),
    data=st.data(),
)
def test_conversions_are_inverses(
    family: tuple[Output, ...], noise_level: float, seed: int, data: st.DataObject
) -> None:
    mine, wanted = data.draw(st.sampled_from(family)), data.draw(st.sampled_from(family))
    (x0, noise), (a, s) = sample(seed, torch.float64), scales(family, noise_level)
    x_t = a * x0 + s * noise
    there = converted(output_for(mine, x0, noise, a, s), x_t, a, s, given=mine, wanted=wanted)
    assert torch.allclose(there, output_for(wanted, x0, noise, a, s), atol=1e-10)
    back = converted(there, x_t, a, s, given=wanted, wanted=mine)
    assert torch.allclose(back, output_for(mine, x0, noise, a, s), atol=1e-8)


@given(t=st.integers(0, 999), seed=st.integers(0, 2**20), prediction=st.sampled_from(VARIANCE_PRESERVING))
def test_an_output_implies_the_image_in_float32(t: int, seed: int, prediction: Output) -> None:
    (x0, noise), (a, s) = sample(seed, torch.float32), scales_at(t)
    x_t = a * x0 + s * noise
    output = output_for(prediction, x0, noise, a, s)
    # Dividing by a small scale loses digits: x0 from epsilon near pure noise.
    assert torch.allclose(implied_x0(prediction, output, x_t, a, s), x0, atol=1e-5 / float(a))


def test_v_is_the_noise_at_the_data_and_minus_the_image_at_pure_noise() -> None:
    x0, noise = sample(0, torch.float32)
    assert torch.allclose(output_for("v", x0, noise, *scales_at(0)), noise, atol=0.05)
    assert torch.allclose(output_for("v", x0, noise, *scales_at(999)), -x0, atol=0.05)


@pytest.mark.parametrize(("field", "known"), [("process", "ddpm, flow, edm"), ("prediction", "epsilon, x0, v")])
def test_a_noise_that_there_is_not_is_refused_by_name(field: str, known: str) -> None:
    noise = NoiseConfig()
    object.__setattr__(noise, field, "bogus")  # as a caller without the tests' own check of types
    with pytest.raises(ValueError, match=f"{field} is one of {known}, not 'bogus'"):
        noise.__post_init__()
