"""What holds for every process, and the laws of flow matching and EDM against tables."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from difftune_core.config.methods.diff_tuning import DiffTuning
from difftune_core.diffusion.edm import EDM
from difftune_core.diffusion.flow import Flow
from difftune_core.diffusion.process import DDPM, Process, make_process
from difftune_core.diffusion.schedule import linear_betas
from difftune_core.evaluate.forgetting import NUM_BINS
from difftune_core.families.dit.judge import retention_loss_by_t
from difftune_core.families.labelled import LabelledData
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT, DiTConfig
from difftune_core.objectives.draws import draw
from difftune_core.objectives.laws import mse_weight, psi
from tests.core.conftest import CONFIG, toy_config
from tests.core.goldens import ANATOMIES, losses
from tests.core.predictions import converted

PROCESSES = {name: make_process(DiTConfig(**fields)) for name, fields in ANATOMIES.items()}
every_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


def psi_of(process: Process, t: torch.Tensor, **hyperparameters: object) -> torch.Tensor:
    method = toy_config(**hyperparameters).method
    assert isinstance(method, DiffTuning)
    return psi(method.hyperparameters, process, t)


@every_process
def test_the_target_implies_the_image(process: Process) -> None:
    stream = torch.Generator().manual_seed(0)
    t = process.draw_times(64, stream, (0.02, 0.98))
    x0, noise = torch.randn(2, 64, 4, 2, 2, generator=stream)
    x_t = process.add_noise(x0, noise, t)
    assert torch.allclose(process.implied_x0(process.target(x0, noise, t), x_t, t), x0, atol=2e-3)


@every_process
def test_times_of_a_share_are_those_of_a_part_of_the_levels_in_training(process: Process) -> None:
    """Ten bins hold a tenth of the training times each, in the order of noise."""
    stream = torch.Generator().manual_seed(0)
    whole = process.level(process.draw_times(20_000, stream))
    for number in range(10):
        found = process.level(process.draw_times(500, stream, (number / 10, (number + 1) / 10)))
        below = (whole[:, None] <= found).double().mean(0)
        assert float(below.min()) >= number / 10 - 0.02
        assert float(below.max()) <= (number + 1) / 10 + 0.02


@every_process
def test_an_error_of_the_output_is_one_of_x0_by_the_ratio(process: Process) -> None:
    t = process.draw_times(64, torch.Generator().manual_seed(1), (0.05, 0.95))
    output, x_t, wrong = torch.randn(3, 64, 4, 2, 2)
    shift = process.implied_x0(output + wrong, x_t, t) - process.implied_x0(output, x_t, t)
    found = wrong.square().flatten(1).sum(1) / shift.square().flatten(1).sum(1)
    assert torch.allclose(found, process.error_ratio(t), rtol=1e-2)


@every_process
@pytest.mark.parametrize("kind", ["min_snr", "p2", "psi"])
def test_weights_are_finite_at_every_time(process: Process, kind: str) -> None:
    t = process.draw_times(10_000, torch.Generator().manual_seed(2))
    weight = mse_weight(kind, process, t)
    assert weight is not None
    assert weight.isfinite().all()
    assert torch.allclose(process.noise_share(t), 1 / (1 + process.snr(t).double()), atol=1e-6)


def test_the_flows_psi_is_ddpms_at_the_same_noise(ddpm: DDPM) -> None:
    """t = 1 / (1 + sqrt(SNR)) has the SNR of a timestep, and its psi."""
    index = torch.tensor([0, 99, 499, 899, 999])
    kept = torch.cumprod(1 - linear_betas(1000), 0)[index]
    t = 1 / (1 + (kept / (1 - kept)).sqrt())
    for tau in (0.5, 1.0, 2.0):
        assert torch.allclose(psi_of(Flow(), t, tau=tau), psi_of(ddpm, index, tau=tau), rtol=1e-4)
    assert torch.allclose(psi_of(Flow(), t, psi="snr"), psi_of(ddpm, index, psi="snr"), rtol=1e-3)


def test_the_flows_psi_agrees_with_a_table() -> None:
    """By counting, in abar = prod(1 - beta), the timesteps whose SNR is no lower: 259 of 1000 at t = 1/2."""
    t = torch.tensor([1e-6, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.994, 1.0], dtype=torch.float64)
    wanted = [0.001, 0.001, 0.030, 0.098, 0.259, 0.475, 0.659, 1.0, 1.0]
    assert psi_of(Flow(), t).tolist() == pytest.approx(wanted, abs=1e-3)
    rising = Flow().level(torch.linspace(0.011, 0.99, 500, dtype=torch.float64)).diff()
    assert (rising > 0).all()


def test_edms_psi_is_the_share_of_less_noise() -> None:
    """cdf of the standard normal at (ln sigma + 1.2) / 1.2."""
    sigma = torch.tensor([math.exp(-1.2 - 1.2), math.exp(-1.2), 1.0, math.exp(1.2)], dtype=torch.float64)
    table = [0.158655, 0.5, 0.841345, 0.977250]
    assert psi_of(EDM(), sigma).tolist() == pytest.approx(table, abs=1e-6)
    assert psi_of(EDM(), sigma, tau=2.0).tolist() == pytest.approx([p**2 for p in table], abs=1e-6)
    drawn = EDM().draw_times(50_000, torch.Generator().manual_seed(3)).double()
    assert float(drawn.log().mean()) == pytest.approx(-1.2, abs=0.02)
    assert float(drawn.log().std()) == pytest.approx(1.2, abs=0.02)
    assert float(psi_of(EDM(), drawn).mean()) == pytest.approx(0.5, abs=0.01), "half of all slots retain"


@given(log_sigma=st.floats(-5, 4), sigma_data=st.floats(0.2, 2))
def test_edms_scalings_are_those_of_table_1(log_sigma: float, sigma_data: float) -> None:
    process, sigma = EDM(sigma_data), torch.tensor([math.exp(log_sigma)], dtype=torch.float64)
    x, output = torch.randn(2, 1, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    total = float(sigma**2) + sigma_data**2
    shown, told = process.network_inputs(x, sigma)
    assert torch.allclose(shown, x / total**0.5)
    assert torch.allclose(told.double(), sigma.log() / 4, atol=1e-6)
    wanted = sigma_data**2 / total * x + float(sigma) * sigma_data / total**0.5 * output
    assert torch.allclose(process.implied_x0(output, x, sigma), wanted)


def test_edms_output_is_minus_v_for_data_of_unit_width() -> None:
    sigma = torch.tensor([0.1, 1.0, 30.0])
    x0, noise = torch.randn(2, 3, 4, 2, 2)
    scale = (sigma / (1 + sigma**2).sqrt()).reshape(-1, 1, 1, 1)
    signal = (1 - scale**2).sqrt()
    v = converted(noise, signal * x0 + scale * noise, signal, scale, given="epsilon", wanted="v")
    assert torch.allclose(EDM(sigma_data=1.0).target(x0, noise, sigma), -v, atol=1e-2)


@pytest.fixture(params=ANATOMIES)
def path(request: pytest.FixtureRequest, toy_model: DiT, training_data: LabelledData) -> tuple[str, DiT, LabelledData]:
    """A name, a toy model of that process and prediction, and its training data."""
    config = replace(CONFIG, **ANATOMIES[request.param])
    model = DiT(config)
    model.load_state_dict(toy_model.state_dict())
    return request.param, model, replace(training_data, process=make_process(config))


@pytest.mark.parametrize("recipe", ["algorithm1", "distillation"])
def test_tau_zero_is_supervised_to_the_bit(path: tuple[str, DiT, LabelledData], recipe: str) -> None:
    _, model, data = path
    given = {"recipe": recipe, "tau": 0.0}
    if recipe == "distillation":
        data = replace(data, teacher=deepcopy(model).eval())
    plain = losses(toy_config("supervised"), model, data)
    assert torch.equal(losses(toy_config(**given), model, data), plain)
    assert not torch.equal(losses(toy_config(recipe=recipe), model, data), plain)


def test_retention_is_judged_in_ten_bins(path: tuple[str, DiT, LabelledData]) -> None:
    _, model, data = path
    assert data.retention is not None
    found = retention_loss_by_t(model, data.retention, data.process, seed=0)
    assert len(found) == NUM_BINS
    assert all(math.isfinite(loss) and loss > 0 for loss in found)
    assert found == retention_loss_by_t(model, data.retention, data.process, seed=0)


@pytest.mark.parametrize("name", ["flow", "edm"])
def test_the_released_recipe_belongs_to_ddpm(name: str) -> None:
    with pytest.raises(TaskError, match="DDPM") as caught:
        draw(toy_config(recipe="released").method, seed=0, step=0, process=PROCESSES[name])
    assert caught.value.code == "recipe_not_for_process"
