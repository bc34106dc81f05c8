"""A change that should not alter numbers does not alter them, and one that does is noticed."""

from __future__ import annotations

import pytest
import torch

from difftune_core.diffusion import process
from difftune_core.families.batch import Batch
from difftune_core.objectives import laws
from difftune_core.train import step
from tests.core.goldens import CASES, is_golden, losses_of, recorded


@pytest.mark.parametrize("case", CASES)
def test_the_losses_are_the_golden_ones(case: str) -> None:
    assert is_golden(losses_of(case), recorded(case))


@pytest.mark.parametrize(
    ("case", "changed"),
    [
        ("none", {"learning_rate": 1.01e-3}),
        ("reconsolidation", {"tau": 1.1}),
        ("released", {"retention_weight": 1.01}),
        ("distillation", {"distillation_weight": 1.01}),
        ("optimizer", {"warmup_steps": 6}),
        ("optimizer", {"weight_decay": 0.0}),
        ("optimizer", {"max_grad_norm": None}),
    ],
)
def test_a_hyperparameter_that_is_off_is_noticed(case: str, changed: dict[str, object]) -> None:
    name = f"ddpm epsilon, {case}"
    assert not is_golden(losses_of(name, **changed), recorded(name))


@pytest.mark.parametrize("case", ["ddpm epsilon, none", "ddpm x0, p2", "ddpm v, min_snr"])
def test_a_noise_schedule_that_is_a_little_off_is_noticed(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    betas = process.linear_betas
    monkeypatch.setattr(process, "linear_betas", lambda count: betas(count) * 1.01)
    assert not is_golden(losses_of(case), recorded(case))


@pytest.mark.parametrize(("name", "value"), [("MIN_SNR_GAMMA", 4.95), ("P2_GAMMA", 0.495), ("P2_K", 1.01)])
def test_a_weighting_that_is_a_little_off_is_noticed(name: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laws, name, value)
    cases = [case for case in CASES if case.endswith(("min_snr", "p2"))]
    assert not all(is_golden(losses_of(case), recorded(case)) for case in cases)


@pytest.mark.parametrize("case", ["released", "distillation", "reconsolidation", "retention"])
def test_a_loss_without_its_slots_weights_is_noticed(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_batch = step.make_batch

    def unweighted(*given: object) -> Batch:
        batch = make_batch(*given)  # type: ignore[arg-type]  # a table
        return Batch(batch.noised, batch.condition, batch.is_target, torch.ones_like(batch.weight))

    monkeypatch.setattr(step, "make_batch", unweighted)
    name = f"ddpm epsilon, {case}"
    assert not is_golden(losses_of(name), recorded(name))
