"""The recipe `weighted`: its identities with the other methods, and what its expected loss is made of."""

from __future__ import annotations

import pytest
import torch

from difftune_core.config.methods.diff_tuning import DiffTuning
from difftune_core.config.resolution import resolve
from difftune_core.diffusion.process import DDPM
from difftune_core.hooks import TaskError
from difftune_core.objectives.draws import Draws, draw
from difftune_core.objectives.laws import mse_weight, power_law
from difftune_core.objectives.weighted import target_weight
from tests.core.conftest import toy_config
from tests.core.test_config import CARD, config

SIZE = 4096


def draws_of(ddpm: DDPM, step: int = 0, *, recipe: str = "weighted", **fields: object) -> Draws:
    method = toy_config(recipe=recipe, batch_size=SIZE, max_steps=100, **fields).method
    return draw(method, seed=1, step=step, process=ddpm)


def weighted(ddpm: DDPM, step: int = 0, *, tau: float = 1.0, **settings: object) -> Draws:
    return draws_of(ddpm, step, tau=tau, recipe_settings=settings)


def test_without_weight_and_share_it_is_plain_fine_tuning_bit_for_bit(ddpm: DDPM) -> None:
    plain = draw(toy_config("supervised", batch_size=SIZE).method, seed=1, step=7, process=ddpm)
    for settings in ({"weighting": "none", "share": 0.0}, {"weighting": "psi", "share": 0.0}):
        found = weighted(ddpm, 7, tau=0.0, **settings)
        assert torch.equal(found.t, plain.t)
        assert torch.equal(found.is_target, plain.is_target)
        assert torch.equal(found.weight, plain.weight)


def test_psi_without_retention_is_reconsolidation_times_a_constant(ddpm: DDPM) -> None:
    found = weighted(ddpm, weighting="psi", share=0.0)
    wanted = draws_of(ddpm, recipe="algorithm1", components="reconsolidation")
    assert torch.equal(found.t, wanted.t)
    assert torch.allclose(found.weight * 0.5005, wanted.weight), "the mean of t/T over 1 ... 1000"


@pytest.mark.parametrize("kind", ["p2", "min_snr", "psi"])
def test_a_weight_has_mean_1_and_the_shape_of_its_law(kind: str, ddpm: DDPM) -> None:
    method = toy_config().method
    assert isinstance(method, DiffTuning)
    found = target_weight(kind, method.hyperparameters, ddpm)
    law = mse_weight(kind, ddpm, torch.arange(1000))
    assert law is not None
    assert float(found.mean()) == pytest.approx(1)
    assert torch.allclose(found / found[500], law / law[500])


def test_retention_has_its_share_its_weight_and_the_law_of_the_released_code(ddpm: DDPM) -> None:
    drawn = [weighted(ddpm, step, weighting="p2", share=0.25, weight=0.3) for step in range(20)]
    kept = ~drawn[0].is_target
    assert int(kept.sum()) == SIZE // 4
    assert float(drawn[0].weight[kept].sum() / SIZE) == pytest.approx(0.3), "the part of its mean loss in the step's"
    total = torch.stack([each.weight[~kept].sum() / SIZE for each in drawn]).mean()
    assert float(total) == pytest.approx(1, abs=0.01)
    times = torch.cat([each.t[kept] for each in drawn])
    tenths = torch.histc(times.float(), 10, 0, 1000) / len(times)
    wanted = power_law(1000, 1.0, rising=False).reshape(10, 100).sum(1)
    assert torch.allclose(tenths.double(), wanted.double(), atol=0.01)


@pytest.mark.parametrize(("decay", "half"), [("none", 1.0), ("linear", 0.5), ("cosine", 0.5)])
def test_the_weight_of_retention_falls_to_nothing_over_the_run(decay: str, half: float, ddpm: DDPM) -> None:
    first, middle, end = (float(weighted(ddpm, step, decay=decay).weight[-1]) for step in (0, 50, 100))
    assert middle / first == pytest.approx(half)
    assert end / first == pytest.approx(1.0 if decay == "none" else 0.0, abs=1e-6)


def test_the_loss_weight_psi_is_the_level_of_noise(ddpm: DDPM) -> None:
    t = torch.tensor([0, 99, 499, 999])
    assert mse_weight("psi", ddpm, t).tolist() == pytest.approx([0.001, 0.1, 0.5, 1.0])


def test_its_settings_are_completed_and_a_second_weight_is_refused() -> None:
    found = resolve(config(recipe="weighted", recipe_settings={"decay": "linear"}), CARD, num_threads=1)
    assert found.method.hyperparameters.recipe_settings == {
        "weighting": "p2",
        "share": 0.2,
        "weight": 0.1,
        "decay": "linear",
    }
    with pytest.raises(TaskError, match="weighs the target alone") as caught:
        resolve(config(recipe="weighted", loss_weighting="p2"), CARD, num_threads=1)
    assert caught.value.param == "method.diff_tuning.hyperparameters.loss_weighting"
