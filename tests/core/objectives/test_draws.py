from __future__ import annotations

import pytest
import torch

from difftune_core.config import DiffTuning
from difftune_core.diffusion.schedule import NoiseSchedule
from difftune_core.objectives.draws import Draws, draw
from difftune_core.objectives.laws import mse_weight, power_law, psi
from tests.core.conftest import toy_config


def draws_of(schedule: NoiseSchedule, seed: int = 1, step: int = 0, **hyperparameters: object) -> Draws:
    return draw(toy_config(**hyperparameters).method, seed=seed, step=step, schedule=schedule)


def psi_of(schedule: NoiseSchedule, **hyperparameters: object) -> torch.Tensor:
    method = toy_config(**hyperparameters).method
    assert isinstance(method, DiffTuning)
    return psi(method.hyperparameters, schedule)


def test_psi_is_one_at_noise_and_falls_towards_the_data(schedule: NoiseSchedule) -> None:
    for tau in (0.3, 1.0, 1.5):
        weights = psi_of(schedule, tau=tau)
        assert weights[-1] == 1
        assert (weights.diff() > 0).all()
    assert torch.equal(psi_of(schedule, tau=0.0), torch.ones(1000, dtype=torch.float64))


def test_psi_agrees_with_the_papers_values(schedule: NoiseSchedule) -> None:
    found = psi_of(schedule)[[99, 499, 899]]
    assert torch.allclose(found, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    snr = schedule.alphas_cumprod.double() / (1 - schedule.alphas_cumprod.double())
    assert torch.allclose(psi_of(schedule, psi="snr"), 1 / (1 + snr), atol=1e-6)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_share_of_retention_images_is_tau_over_one_plus_tau(tau: float, schedule: NoiseSchedule) -> None:
    draws = [draws_of(schedule, step=step, batch_size=4096, tau=tau) for step in range(10)]
    share = 1 - torch.cat([d.is_target for d in draws]).double().mean()
    expected = tau / (1 + tau)
    error = (expected * (1 - expected) / 40960) ** 0.5
    assert abs(float(share) - expected) < 4 * error + 1e-3


def test_source_depends_on_t_as_psi_says(schedule: NoiseSchedule) -> None:
    draws = draws_of(schedule, seed=3, batch_size=65536)
    for low in range(0, 1000, 100):
        chosen = (draws.t >= low) & (draws.t < low + 100)
        wanted = float(psi_of(schedule)[low : low + 100].mean())
        assert abs(float(draws.is_target[chosen].double().mean()) - wanted) < 0.03


@pytest.mark.parametrize(
    ("components", "target", "retention"),
    [("both", 0.5, 0.5), ("reconsolidation", 0.5, 0.0), ("retention", 1.0, 0.5)],
)
def test_the_expected_weight_of_each_source(
    components: str, target: float, retention: float, schedule: NoiseSchedule
) -> None:
    """Over uniform t, psi = t/T has mean 1/2: what each source adds to the step's loss per unit of its own loss."""
    draws = draws_of(schedule, batch_size=65_536, components=components)
    assert float((draws.weight * draws.is_target).mean()) == pytest.approx(target, abs=0.01)
    assert float((draws.weight * ~draws.is_target).mean()) == pytest.approx(retention, abs=0.01)


def test_methods_with_one_seed_share_timesteps(schedule: NoiseSchedule) -> None:
    for step in range(3):
        ours = draws_of(schedule, step=step, batch_size=64)
        plain = draws_of(schedule, step=step, batch_size=64, method="supervised")
        assert torch.equal(ours.t, plain.t)
        assert plain.is_target.all()
    assert not torch.equal(ours.t, draws_of(schedule, seed=2, step=2, batch_size=64).t)


def test_released_cuts_the_batch_as_the_code_does(schedule: NoiseSchedule) -> None:
    draws = draws_of(schedule, batch_size=32, recipe="released")
    assert draws.is_target.tolist() == [True] * 26 + [False] * 6
    losses = torch.rand(32)
    wanted = losses[:26].mean() + 0.1 * losses[26:].mean()
    assert torch.isclose((draws.weight * losses).mean(), wanted)


def test_released_laws_of_t_agree_with_a_table(schedule: NoiseSchedule) -> None:
    rising, falling = (power_law(1000, 1.0, rising=r) for r in (True, False))
    assert torch.allclose(rising[[0, 499, 999]] * 500_500, torch.tensor([1.0, 500.0, 1000.0], dtype=torch.float64))
    assert torch.equal(rising.flip(0), falling)
    assert torch.isclose(rising.sum(), torch.tensor(1.0, dtype=torch.float64))
    draws = draws_of(schedule, batch_size=65_536, recipe="released")
    mean = draws.t[draws.is_target].double().mean()
    assert abs(float(mean) - 2 / 3 * 1000) < 5
    assert abs(float(draws.t[~draws.is_target].double().mean()) - 1000 / 3) < 10


def test_loss_weights_agree_with_their_papers(schedule: NoiseSchedule) -> None:
    t = torch.arange(1000)
    snr = schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)
    clipped, p2 = (mse_weight(kind, schedule, t) for kind in ("min_snr", "p2"))
    assert clipped is not None
    assert p2 is not None
    assert torch.equal(clipped[snr <= 5], torch.ones(int((snr <= 5).sum())))
    assert torch.allclose(clipped[snr > 5] * snr[snr > 5], torch.tensor(5.0))
    assert torch.allclose(p2, (1 + snr) ** -0.5)
    assert mse_weight("none", schedule, t) is None
