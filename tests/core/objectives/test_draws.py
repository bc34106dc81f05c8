from __future__ import annotations

import pytest
import torch

from difftune_core.config.methods.diff_tuning import DiffTuning
from difftune_core.config.sampling import Prediction
from difftune_core.diffusion.process import DDPM
from difftune_core.objectives.draws import Draws, draw
from difftune_core.objectives.laws import mse_weight, power_law, psi
from tests.core.conftest import toy_config


def draws_of(ddpm: DDPM, seed: int = 1, step: int = 0, **hyperparameters: object) -> Draws:
    return draw(toy_config(**hyperparameters).method, seed=seed, step=step, process=ddpm)


def psi_of(ddpm: DDPM, **hyperparameters: object) -> torch.Tensor:
    method = toy_config(**hyperparameters).method
    assert isinstance(method, DiffTuning)
    return psi(method.hyperparameters, ddpm, torch.arange(1000))


def test_psi_is_one_at_noise_and_falls_towards_the_data(ddpm: DDPM) -> None:
    for tau in (0.3, 1.0, 1.5):
        weights = psi_of(ddpm, tau=tau)
        assert weights[-1] == 1
        assert (weights.diff() > 0).all()
    assert torch.equal(psi_of(ddpm, tau=0.0), torch.ones(1000, dtype=torch.float64))


def test_psi_agrees_with_the_papers_values(ddpm: DDPM) -> None:
    found = psi_of(ddpm)[[99, 499, 899]]
    assert torch.allclose(found, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    snr = ddpm.schedule.alphas_cumprod.double() / (1 - ddpm.schedule.alphas_cumprod.double())
    assert torch.allclose(psi_of(ddpm, psi="snr"), 1 / (1 + snr), atol=1e-6)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_share_of_retention_images_is_tau_over_one_plus_tau(tau: float, ddpm: DDPM) -> None:
    draws = [draws_of(ddpm, step=step, batch_size=4096, tau=tau) for step in range(10)]
    share = 1 - torch.cat([d.is_target for d in draws]).double().mean()
    expected = tau / (1 + tau)
    error = (expected * (1 - expected) / 40960) ** 0.5
    assert abs(float(share) - expected) < 4 * error + 1e-3


def test_source_depends_on_t_as_psi_says(ddpm: DDPM) -> None:
    draws = draws_of(ddpm, seed=3, batch_size=65536)
    for low in range(0, 1000, 100):
        chosen = (draws.t >= low) & (draws.t < low + 100)
        wanted = float(psi_of(ddpm)[low : low + 100].mean())
        assert abs(float(draws.is_target[chosen].double().mean()) - wanted) < 0.03


@pytest.mark.parametrize(
    ("components", "target", "retention"),
    [("both", 0.5, 0.5), ("reconsolidation", 0.5, 0.0), ("retention", 1.0, 0.5)],
)
def test_the_expected_weight_of_each_source(components: str, target: float, retention: float, ddpm: DDPM) -> None:
    """Over uniform t, psi = t/T has mean 1/2: what each source adds to the step's loss per unit of its own loss."""
    draws = draws_of(ddpm, batch_size=65_536, components=components)
    assert float((draws.weight * draws.is_target).mean()) == pytest.approx(target, abs=0.01)
    assert float((draws.weight * ~draws.is_target).mean()) == pytest.approx(retention, abs=0.01)


def test_methods_with_one_seed_share_timesteps(ddpm: DDPM) -> None:
    for step in range(3):
        ours = draws_of(ddpm, step=step, batch_size=64)
        plain = draws_of(ddpm, step=step, batch_size=64, method="supervised")
        assert torch.equal(ours.t, plain.t)
        assert plain.is_target.all()
    assert not torch.equal(ours.t, draws_of(ddpm, seed=2, step=2, batch_size=64).t)


def test_released_cuts_the_batch_as_the_code_does(ddpm: DDPM) -> None:
    draws = draws_of(ddpm, batch_size=32, recipe="released")
    assert draws.is_target.tolist() == [True] * 26 + [False] * 6
    losses = torch.rand(32)
    wanted = losses[:26].mean() + 0.1 * losses[26:].mean()
    assert torch.isclose((draws.weight * losses).mean(), wanted)


def test_released_laws_of_t_agree_with_a_table(ddpm: DDPM) -> None:
    rising, falling = (power_law(1000, 1.0, rising=r) for r in (True, False))
    assert torch.allclose(rising[[0, 499, 999]] * 500_500, torch.tensor([1.0, 500.0, 1000.0], dtype=torch.float64))
    assert torch.equal(rising.flip(0), falling)
    assert torch.isclose(rising.sum(), torch.tensor(1.0, dtype=torch.float64))
    draws = draws_of(ddpm, batch_size=65_536, recipe="released")
    mean = draws.t[draws.is_target].double().mean()
    assert abs(float(mean) - 2 / 3 * 1000) < 5
    assert abs(float(draws.t[~draws.is_target].double().mean()) - 1000 / 3) < 10


def test_loss_weights_agree_with_their_papers(ddpm: DDPM) -> None:
    t = torch.arange(1000)
    snr = ddpm.schedule.alphas_cumprod / (1 - ddpm.schedule.alphas_cumprod)
    clipped, p2 = (mse_weight(kind, ddpm, t) for kind in ("min_snr", "p2"))
    assert clipped is not None
    assert p2 is not None
    assert torch.equal(clipped[snr <= 5], torch.ones(int((snr <= 5).sum())))
    assert torch.allclose(clipped[snr > 5] * snr[snr > 5], torch.tensor(5.0))
    assert torch.allclose(p2, (1 + snr) ** -0.5)
    assert mse_weight("none", ddpm, t) is None


@pytest.mark.parametrize("kind", ["min_snr", "p2"])
@pytest.mark.parametrize(("prediction", "x0_to_output"), [("x0", 0.0), ("v", 1.0)])
def test_loss_weights_weigh_the_same_error_alike_whatever_is_predicted(
    kind: str, prediction: Prediction, x0_to_output: float, ddpm: DDPM
) -> None:
    """Where the squared error of the noise is 1, that of x0 is 1 / SNR and that of v is 1 + 1 / SNR."""
    t = torch.arange(1000)
    of_noise, of_other = (mse_weight(kind, process, t) for process in (ddpm, DDPM(ddpm.schedule, prediction)))
    assert of_noise is not None
    assert of_other is not None
    snr = ddpm.snr(t)
    assert torch.allclose(of_other * (1 / snr + x0_to_output), of_noise, rtol=1e-4)


def test_min_snr_agrees_with_a_table(ddpm: DDPM) -> None:
    """SNR is 9999 at the first timestep, and 1 somewhere: min(SNR, 5) over SNR, over 1, over 1 + SNR."""
    middle = int((ddpm.snr(torch.arange(1000)) - 1).abs().argmin())
    t = torch.tensor([0, middle])
    table = {"epsilon": [5 / 9999, 1.0], "x0": [5.0, 1.0], "v": [5 / 10_000, 0.5]}
    for prediction, wanted in table.items():
        found = mse_weight("min_snr", DDPM(ddpm.schedule, prediction), t)
        assert found is not None
        assert found.tolist() == pytest.approx(wanted, rel=0.01)
