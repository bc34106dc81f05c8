"""The last steps of a chain by the source model, as a way to draw."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.diffusion.denoisers import Memoised
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.dit.chain import chain_latents
from difftune_core.families.dit.draw import sample_latents
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT
from tests.core.evaluate.test_chain import LABELS, SAMPLINGS, base
from tests.core.goldens import ANATOMIES
from tests.core.test_config import CARD

__all__ = ["base"]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda s: f"{s.sampler}-{s.guidance}-{s.guidance_scale}")
def test_a_share_is_drawn_as_the_chain_of_forgetting_has_it_bit_for_bit(
    toy_model: DiT, base: DiT, sampling: Sampling
) -> None:
    wanted, steps = chain_latents(toy_model, base, LABELS, sampling, [0.0, 0.2, 0.4])
    assert steps == [0, 1, 2]
    for share, latents in zip((0.0, 0.2, 0.4), wanted, strict=True):
        found = sample_latents(toy_model, LABELS, replace(sampling, handover=share), source=base)
        assert torch.equal(found, latents)


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_of_every_process_the_last_steps_are_handed_over(toy_model: DiT, base: DiT, anatomy: str) -> None:
    """A source that puts out nothing shows whose each step is: it alone is asked from the hand-over on."""
    sampler = {"flow": "euler", "edm": "euler"}.get(anatomy, "ddim")
    config = replace(toy_model.config, **ANATOMIES[anatomy])
    tuned, source = DiT(config), DiT(replace(base.config, **ANATOMIES[anatomy]))
    asked: list[str] = []
    for name, model in (("tuned", tuned), ("source", source)):
        model.register_forward_hook(lambda *_, name=name: asked.append(name))
    sampling = Sampling(sampler=sampler, num_inference_steps=5, guidance="none", handover=0.4)
    sample_latents(tuned, LABELS, sampling, source=source)
    assert asked == ["tuned"] * 3 + ["source"] * 2


def test_the_null_branch_is_drawn_by_the_model_alone(toy_model: DiT) -> None:
    null = torch.full((2,), toy_model.null_label)
    sampling = Sampling(num_inference_steps=4)
    found = sample_latents(toy_model, null, replace(sampling, handover=0.5))
    assert torch.equal(found, sample_latents(toy_model, null, sampling))


def test_a_recipe_tells_a_hand_over_only_where_there_is_one() -> None:
    assert "handover" not in Sampling().told()
    assert Sampling(handover=0.2).told()["handover"] == 0.2


@pytest.mark.parametrize(("share", "steps", "code"), [(0.01, 10, "invalid_option"), (0.1, 10, None), (0.1, 5, None)])
def test_a_share_that_is_not_half_a_step_is_refused(share: float, steps: int, code: str | None) -> None:
    given = TransferConfig(model="toy", evaluation=EvaluationConfig(handover=share, num_inference_steps=steps))
    if code is None:
        assert resolve(given, CARD, num_threads=1).evaluation.handover == share
        return
    with pytest.raises(TaskError) as caught:
        resolve(given, CARD, num_threads=1)
    assert (caught.value.code, caught.value.param) == (code, "evaluation.handover")


def test_a_family_without_a_chain_refuses_it() -> None:
    card = CARD.model_copy(update={"family": "stable-diffusion", "num_classes": None})
    given = TransferConfig(model="toy", control={"condition": "edge"}, evaluation=EvaluationConfig(handover=0.2))
    with pytest.raises(TaskError) as caught:
        resolve(given, card, num_threads=1)
    assert (caught.value.code, caught.value.param) == ("handover_not_for_model", "evaluation.handover")


def test_the_source_is_asked_once_a_step_and_only_the_newest_step_is_remembered(toy_model: DiT) -> None:
    asked: list[float] = []

    def source(x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        asked.append(float(t[0]))
        return toy_model(x, t, condition)

    once, null = Memoised(source, of_one_step=True), torch.zeros(2, dtype=torch.long)
    x = torch.randn(2, toy_model.config.in_channels, *[toy_model.config.input_size] * 2)
    for time in (5.0, 5.0, 3.0, 3.0, 5.0):
        once(x, torch.full((2,), time), null)
    assert asked == [5.0, 3.0, 5.0]
