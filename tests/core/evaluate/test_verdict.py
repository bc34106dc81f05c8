"""What is better than the delivered checkpoint is said, where the difference is more than chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from difftune_core.config.evaluation import EvaluationConfig, told_unmeasured
from difftune_core.config.reports.evaluation import Evaluation
from difftune_core.config.reports.record import changed
from difftune_core.evaluate.quality import quality
from difftune_core.evaluate.verdict import shortcomings

BASE = Evaluation.model_validate({"step": 0, "fid": 90.0, "fid_se": 1.0})


def entry(step: int, fid: float | None, se: float | None = 0.1, **more: Any) -> Evaluation:
    return Evaluation.model_validate({"step": step, "fid": fid, "fid_se": se, **more})


def said(entries: list[Evaluation], base: Evaluation = BASE, metric: str = "fid") -> list[str]:
    return [found.message for found in shortcomings(entries, entries[-1], base, metric)]


def test_a_worse_checkpoint_than_an_earlier_one_is_named_with_both_figures() -> None:
    entries = [entry(100, 11.5), entry(200, 10.1), entry(400, 12.3)]
    [found] = shortcomings(entries, entries[-1], BASE, "fid")
    assert found.message == "The delivered checkpoint (step 400, FID 12.30) is worse than step 200 (FID 10.10)."
    told = {"code": "delivered_worse", "message": found.message, "metric": "fid", "step": 400, "value": 12.3}
    assert found.told() == {**told, "other_step": 200, "other_value": 10.1}


def test_a_worse_checkpoint_than_the_base_model_is_named() -> None:
    base = entry(0, 9.0)
    assert said([entry(400, 12.3)], base) == [
        "The delivered checkpoint (step 400, FID 12.30) is worse than the base model, which was not tuned (FID 9.000)."
    ]


def test_a_difference_within_the_error_is_not_spoken_of() -> None:
    assert said([entry(200, 10.1, se=1.0), entry(400, 12.3, se=1.0)]) == []
    assert said([entry(200, 10.1, se=0.7), entry(400, 12.3, se=0.7)]) != []
    many = [entry(step, 10.1, se=0.7) for step in range(1, 30)]
    assert said([*many, entry(400, 12.3, se=0.7)]) == [], "the lowest of many is low by chance too"


@pytest.mark.parametrize("unknown", [None, float("nan")])
def test_without_an_error_where_there_should_be_one_nothing_is_said(unknown: float | None) -> None:
    assert said([entry(200, 1.0, se=unknown), entry(400, 12.3, se=unknown)]) == []
    assert said([entry(200, None, se=None), entry(400, None, se=None)]) == []


def test_higher_is_better_for_agreement_with_controls() -> None:
    steps = {2: 0.9, 4: 0.5, 0: 0.1}
    *scored, base = (entry(step, None, ssim=ssim, ssim_se=0.01) for step, ssim in steps.items())
    assert said(scored, base, "ssim") == [
        "The delivered checkpoint (step 4, SSIM 0.5000) is worse than step 2 (SSIM 0.9000)."
    ]
    assert said(scored[::-1], base, "ssim") == []


def test_by_forgetting_the_base_model_is_better_by_definition() -> None:
    forgetful = [entry(2, 5.0, l2_from_base=1.0), entry(4, 4.0, l2_from_base=2.0)]
    [told] = said(forgetful, changed(BASE, l2_from_base=0.0), "l2_from_base")
    assert "step 2" in told


@pytest.mark.parametrize("metric", ["fid", "kid", "precision", "coverage", "fd_other"])
@pytest.mark.parametrize("count", [2, 3, 99, 100])
def test_what_is_told_at_submit_is_what_the_evaluation_finds(metric: str, count: int) -> None:
    rng = np.random.default_rng(0)
    real, fake = ({id_: rng.normal(size=(n, 4)).astype(np.float32) for id_ in ("main", "other")} for n in (count, 120))
    figures = quality(real, fake, ("precision_recall", "density_coverage"))
    extractors = ("main", "other")
    config = EvaluationConfig(
        num_images=120, best_metric=metric, deliver="best", every_steps=1, feature_extractors=extractors
    )
    told = told_unmeasured(config, count)
    assert (told is not None) == (figures.get(metric) is None)
    if told is not None:
        assert f"evaluation.deliver 'best' will do nothing: {metric} needs at least" in told
    assert told_unmeasured(config.model_copy(update={"deliver": "last"}), count) is None
