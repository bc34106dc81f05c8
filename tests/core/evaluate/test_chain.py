from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from difftune_core.config.reports.chain import ChainCheckpoint, ChainReport
from difftune_core.diffusion.denoisers import HandOver, Memoised
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.frechet import frechet_difference, frechet_estimate
from difftune_core.evaluate.report.chain import _charts, _tile, chain_page, finding
from difftune_core.families.dit.analyse import minimum
from difftune_core.families.dit.chain import chain_latents, runnable
from difftune_core.families.dit.draw import UnderNull, sample_latents
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT

TENTHS = [i / 10 for i in range(11)]
LABELS = torch.tensor([0, 1, 2, 0, 1])
SAMPLINGS = [
    Sampling(sampler="ddim", num_inference_steps=5, guidance_scale=2.0, seed=3),
    Sampling(sampler="ddpm", num_inference_steps=5, guidance_scale=2.0, seed=3),
    Sampling(sampler="ddim", num_inference_steps=5, guidance_scale=2.0, guidance="domain"),
    Sampling(sampler="ddim", num_inference_steps=5, guidance_scale=1.0),
]


@pytest.fixture
def base(toy_model: DiT) -> DiT:
    """A source with another label table."""
    torch.manual_seed(1)
    model = DiT(replace(toy_model.config, num_classes=7))
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


class Counting(DiT):
    """A model that counts its passes."""

    def __init__(self, model: DiT) -> None:
        torch.nn.Module.__init__(self)
        self.config, self.pos_embed, self.model, self.passes = model.config, model.pos_embed, model, 0

    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return self.model(x, t, y)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda s: f"{s.sampler}-{s.guidance}-{s.guidance_scale}")
def test_the_ends_are_the_two_models_alone_bit_for_bit(toy_model: DiT, base: DiT, sampling: Sampling) -> None:
    drawn, steps = chain_latents(toy_model, base, LABELS, sampling, [0.0, 0.4, 1.0], first_index=2)
    tuned = sample_latents(toy_model, LABELS, sampling, source=base, first_index=2)
    null = torch.full_like(LABELS, base.null_label)
    alone = sample_latents(base, null, sampling, source=base, first_index=2)
    assert steps == [0, 2, 5]
    assert torch.equal(drawn[0], tuned)
    assert torch.equal(drawn[2], alone)
    assert not torch.allclose(drawn[1], tuned, atol=1e-3)
    assert not torch.allclose(drawn[1], alone, atol=1e-3)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda s: f"{s.sampler}-{s.guidance}-{s.guidance_scale}")
def test_shared_steps_equal_computed_ones_bit_for_bit(toy_model: DiT, base: DiT, sampling: Sampling) -> None:
    drawn, _ = chain_latents(toy_model, base, LABELS, sampling, [0.0, 0.2, 0.6])
    chain = HandOver(toy_model, UnderNull(base, base.null_label))
    chain.hand_over(0.0)
    sample_latents(toy_model, LABELS, sampling, source=base, denoise=chain)
    for share, shared in ((0.2, drawn[1]), (0.6, drawn[2])):
        chain.hand_over(share)
        assert torch.equal(sample_latents(toy_model, LABELS, sampling, source=base, denoise=chain), shared)


def test_the_tuned_model_runs_its_chain_once(toy_model: DiT, base: DiT) -> None:
    tuned, source = Counting(toy_model), Counting(base)
    sampling = SAMPLINGS[0]
    chain_latents(tuned, source, LABELS, sampling, [0.0, 0.2, 0.4, 1.0])
    assert tuned.passes == 2 * 5, "a conditional and an unconditional pass a step"
    assert source.passes == 1 + 2 + 5, "the tails; under the null label guidance costs nothing"


def test_only_the_very_same_pass_is_remembered(toy_model: DiT) -> None:
    counting = Counting(toy_model)
    model = Memoised(counting)
    x, t = torch.randn(2, 4, 8, 8), torch.full((2,), 10.0)
    first = model(x, t, torch.tensor([0, 1]))
    assert torch.equal(model(x.clone(), t, torch.tensor([0, 1])), first)
    assert counting.passes == 1
    assert torch.equal(model(x, t, torch.tensor([1, 1])), toy_model(x, t, torch.tensor([1, 1])))
    assert torch.equal(model(x + 1, t, torch.tensor([1, 1])), toy_model(x + 1, t, torch.tensor([1, 1])))


def test_a_chain_begins_with_the_tuned_model_alone(toy_model: DiT, base: DiT) -> None:
    with pytest.raises(AssertionError, match="the first chain"):
        chain_latents(toy_model, base, LABELS, SAMPLINGS[0], [0.5])


@pytest.mark.parametrize(
    ("steps", "fractions", "run"),
    [
        (10, TENTHS, TENTHS),
        (5, TENTHS, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (5, [0.0, 0.5, 1.0], [0.0, 0.6, 1.0]),
        (5, [0.0, 0.3, 0.95], [0.0, 0.4, 1.0]),
    ],
)
def test_a_share_is_of_whole_steps_and_run_once(
    toy_model: DiT, base: DiT, steps: int, fractions: list[float], run: list[float]
) -> None:
    sampling = replace(SAMPLINGS[0], num_inference_steps=steps)
    shares = runnable(fractions, sampling, toy_model.config)
    assert shares == run
    handed = chain_latents(toy_model, base, LABELS[:1], sampling, shares)[1]
    assert [count / steps for count in handed] == run
    with pytest.raises(TaskError, match="half a step of"):
        runnable([0.0, 0.04], sampling, toy_model.config)


def test_a_step_of_two_evaluations_is_one(toy_model: DiT) -> None:
    config = replace(toy_model.config, process="flow", prediction="v", learn_sigma=False)
    assert runnable(TENTHS, Sampling(sampler="heun", num_inference_steps=5), config) == [i / 5 for i in range(6)]


@pytest.mark.parametrize(("n", "m", "d", "too_high"), [(300, 240, 4, 0.2), (24, 30, 40, 0.5)])
def test_the_error_of_a_paired_difference_is_its_spread(n: int, m: int, d: int, too_high: float) -> None:
    """Groups left out of few images, fewer than features, err on the safe side."""

    def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        real, before = rng.normal(size=(n, d)), 1.3 * rng.normal(size=(m, d)) + 0.2
        return real, before, 0.95 * before + 0.1 * rng.normal(size=(m, d))

    found = [frechet_difference(*draw(seed)) for seed in range(120)]
    values = np.array([estimate.value for estimate in found])
    errors = np.array([estimate.se for estimate in found])
    assert -0.2 < errors.mean() / values.std(ddof=1) - 1 < too_high
    real, before, after = draw(0)
    apart = frechet_estimate(real, after), frechet_estimate(real, before)
    assert found[0].value == pytest.approx(apart[0].value - apart[1].value, rel=1e-9)
    assert found[0].se < 0.6 * np.hypot(apart[0].se, apart[1].se), "pairs have most in common"


def points(*changes: float, se: float = 1.0) -> list[dict[str, Any]]:
    first = {"fraction": 0.0, "fid": 50.0}
    rest = [
        {"fraction": (i + 1) / len(changes), "fid": 50 + change, "fid_change": change, "fid_change_se": se}
        for i, change in enumerate(changes)
    ]
    return [first, *rest]


@pytest.mark.parametrize(
    ("changes", "fraction", "below", "worse_from", "words"),
    [
        (
            *((-5.0, 0.0, 9.0, 20.0), 0.25, True, 0.75),
            (
                "FID is lowest with the last 25 % of the steps handed to the base model, 45.00 against 50.00 of the "
                "tuned model alone, a change of -5.00 (-7.50 to -2.50): near the data the tuned model has forgotten "
                "what the base model still knows. From 75 % on it is measurably worse."
            ),
        ),
        (
            *((-1.9, 0.0, 9.0, 20.0), 0.25, False, 0.75),
            (
                "FID is lowest with the last 25 % of the steps handed to the base model, 48.10 against 50.00 of the "
                "tuned model alone, which is within the error (-4.40 to 0.598). From 75 % on it is measurably worse."
            ),
        ),
        (
            *((-2.2, 0.0, 0.0, 0.0), 0.25, False, None),
            (
                "FID is lowest with the last 25 % of the steps handed to the base model, 47.80 against 50.00 of the "
                "tuned model alone, which is within the error (-4.70 to 0.298). At no share is it measurably worse."
            ),
        ),
        (
            *((4.0, 5.0, 9.0, 20.0), 0.0, False, 0.25),
            (
                "no part of the chain is better left to the base model; alone it reaches 50.00. From 25 % on it is "
                "measurably worse."
            ),
        ),
    ],
)
def test_the_minimum_counts_only_beyond_the_error_of_all_comparisons(
    changes: tuple[float, ...], fraction: float, below: bool, worse_from: float | None, words: str
) -> None:
    found = minimum(points(*changes))
    assert (found["fraction"], found["is_below_tuned"], found["worse_from"]) == (fraction, below, worse_from)
    told = finding(ChainCheckpoint.model_validate({"name": "tuned", "points": points(*changes), "minimum": found}))
    assert told.replace("\u202f", " ") == f"tuned: {words}"


def test_the_page_says_where_the_images_are_too_few() -> None:
    few = {"warnings": ["50 images for 64 features: no full covariance, FID is far too high"]}
    rest = {"fid_se": 1.0, "kid": 0.1, "kid_se": 0.01}
    judged = [p | rest | few | {"base_steps": i} for i, p in enumerate(points(-5.0, 9.0))]
    checkpoint = {"name": "tuned", "step": 400, "digest": "d", "points": judged, "minimum": minimum(judged)}
    recipe = {"feature_extractor": "tiny-features", "num_generated": 50, "num_real": 50}
    result = {"base_model": {"id": "tiny-dit"}, "class_names": ["0"], "fractions": [0.0, 0.5, 1.0], "recipe": recipe,
              "comparable_with_published": False, "environment": {}, "checkpoints": [checkpoint]}  # fmt: skip
    page = chain_page(ChainReport.model_validate(result), {})
    assert page.count("too few images, see the notes; lowest 45.0 at 50") == 1
    assert page.count("± 1.0, too few images</td>") == len(judged)


def test_a_tile_and_the_charts_tell_of_the_tuned_model_alone_the_lowest_and_the_base_model() -> None:
    judged = [p | {"kid": 0.25} for p in points(-5.0, 9.0)]
    fields = {"name": "tuned", "step": 400, "digest": "d", "points": judged, "minimum": minimum(judged)}
    checkpoint = ChainCheckpoint.model_validate(fields)
    tile = _tile(checkpoint)
    assert (tile.label, tile.value) == ("tuned, alone", "50.00")
    assert tile.detail.replace("\u202f", " ") == "lowest 45.0 at 50 %, 59.0 at 100 %"
    fid, change, kid = _charts([checkpoint])
    assert [chart.title for chart in (fid, change, kid)] == [
        "FID on held-out images",
        "Change in FID by handing over",
        "KID on held-out images",
    ]
    assert fid.legend == kid.legend == [("s0", "tuned")], "an end of the chain is no result"
    assert [text.split(" 0")[0] for _, text in change.legend] == ["tuned", "tuned model alone"]
