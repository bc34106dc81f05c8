from __future__ import annotations

import pytest
import torch

from difftune_core.objectives.draws import draw, psi
from tests.core.conftest import toy_config


def test_psi_is_one_at_noise_and_falls_towards_the_data() -> None:
    t = torch.arange(1000)
    for tau in (0.3, 1.0, 1.5):
        weights = psi(t, 1000, tau)
        assert weights[-1] == 1
        assert (weights.diff() > 0).all()
    assert torch.equal(psi(t, 1000, 0.0), torch.ones(1000, dtype=torch.float64))


def test_psi_agrees_with_the_papers_values() -> None:
    t = torch.tensor([99, 499, 899])
    assert torch.allclose(psi(t, 1000, 1.0), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_share_of_retention_images_is_tau_over_one_plus_tau(tau: float) -> None:
    config = toy_config(batch_size=4096, tau=tau)
    draws = [draw(config.method, seed=1, step=step, num_timesteps=1000) for step in range(10)]
    share = 1 - torch.cat([d.is_target for d in draws]).double().mean()
    expected = tau / (1 + tau)
    error = (expected * (1 - expected) / 40960) ** 0.5
    assert abs(float(share) - expected) < 4 * error + 1e-3


def test_source_depends_on_t_as_psi_says() -> None:
    config = toy_config(batch_size=65536)
    draws = draw(config.method, seed=3, step=0, num_timesteps=1000)
    for low in range(0, 1000, 100):
        chosen = (draws.t >= low) & (draws.t < low + 100)
        wanted = float(psi(torch.arange(low, low + 100), 1000, 1.0).mean())
        assert abs(float(draws.is_target[chosen].double().mean()) - wanted) < 0.03


def test_methods_with_one_seed_share_timesteps() -> None:
    ours, plain = (toy_config(method, batch_size=64) for method in ("diff_tuning", "supervised"))
    for step in range(3):
        a, b = (draw(c.method, seed=5, step=step, num_timesteps=1000) for c in (ours, plain))
        assert torch.equal(a.t, b.t)
        assert b.is_target.all()
    assert not torch.equal(a.t, draw(plain.method, seed=6, step=2, num_timesteps=1000).t)
