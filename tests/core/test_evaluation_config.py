from __future__ import annotations

import pytest
from pydantic import ValidationError

from difftune_core.config.card import BaseModelCard
from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.figures import default_metrics, named_metrics
from difftune_core.config.resolution import resolve
from difftune_core.config.retention import RetentionSetConfig
from difftune_core.config.transfer import TransferConfig
from difftune_core.diffusion.reverse import Sampling
from difftune_core.hooks import TaskError

CARD = BaseModelCard(
    id="toy",
    family="dit",
    image_size=32,
    feature_extractor="own",
    digest="d",
    defaults={"evaluation": {"num_images": 77, "num_inference_steps": 3, "every_steps": 5}},
)


def judged(card: BaseModelCard = CARD, **fields: object) -> EvaluationConfig:
    given = TransferConfig.model_validate({"model": "toy", "evaluation": fields})
    resolved = resolve(given, card, num_threads=1)
    assert resolve(resolved, card, num_threads=1) == resolved
    assert TransferConfig.model_validate_json(resolved.model_dump_json()) == resolved
    return resolved.evaluation


@pytest.mark.parametrize(("preset", "images", "steps"), [("paper", 10_000, 50), ("dit", 50_000, 250)])
def test_a_preset_goes_over_the_card_and_below_what_is_stated(preset: str, images: int, steps: int) -> None:
    found = judged(preset=preset)
    assert (found.num_images, found.num_inference_steps, found.sampler) == (images, steps, "ddpm")
    assert (found.guidance_scale, found.guidance, found.other_guidance) == (1.5, "cfg", ("none", "domain"))
    assert found.every_steps == 5, "the card's, of which the preset says nothing"
    stated = judged(preset=preset, num_images=9, guidance="domain", other_guidance=[])
    assert (stated.num_images, stated.num_inference_steps) == (9, steps)
    assert (stated.guidance, stated.other_guidance) == ("domain", ())


@pytest.mark.parametrize("process", ["flow", "edm"])
def test_a_preset_leaves_another_process_its_own_sampler(process: str) -> None:
    card = CARD.model_copy(update={"process": process})
    found = judged(card, preset="paper")
    assert (found.sampler, found.num_images, found.num_inference_steps) == ("euler", 10_000, 50)
    defaults = card.defaults.model_copy(update={"evaluation": {"sampler": "dpmsolver++"}})
    assert judged(card.model_copy(update={"defaults": defaults}), preset="paper").sampler == "dpmsolver++"
    with pytest.raises(TaskError, match="does not fit a model of the process"):
        judged(card, preset="paper", sampler="ddpm")


def test_what_is_sampled_without_a_word_is_as_a_config_without_a_word_says() -> None:
    assert Sampling() == Sampling.of(EvaluationConfig()) == Sampling.of(RetentionSetConfig())


def test_without_a_preset_the_card_counts() -> None:
    found = judged()
    assert (found.preset, found.num_images, found.num_inference_steps, found.other_guidance) == (None, 77, 3, ())


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"best_metric": "precision"}, "metric_not_measured", "evaluation.best_metric"),
        ({"best_metric": "fd_dinov2"}, "metric_not_measured", "evaluation.best_metric"),
        ({"best_metric": "fd_own", "feature_extractors": ["own"]}, "metric_not_measured", "evaluation.best_metric"),
        ({"feature_extractors": ["own", "own"]}, "not_unique", "evaluation.feature_extractors"),
        ({"deliver": "best", "every_steps": None}, "evaluations_needed", "evaluation.every_steps"),
        ({"early_stopping": {"patience": 1}, "every_steps": None}, "evaluations_needed", "evaluation.every_steps"),
    ],
)
def test_what_is_not_measured_is_refused_by_name(fields: dict[str, object], code: str, param: str) -> None:
    with pytest.raises(TaskError) as caught:
        judged(**fields)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_the_card_may_give_the_evaluations_that_early_stopping_needs() -> None:
    limit = judged(early_stopping={"patience": 3}, deliver="best").early_stopping
    assert limit is not None
    assert (limit.patience, limit.min_delta) == (3, 0.0)


def test_the_distance_of_a_further_extractor_can_choose_the_best() -> None:
    assert judged(feature_extractors=["own", "dinov2"], best_metric="fd_dinov2").best_metric == "fd_dinov2"
    assert judged(metrics=["precision_recall"], best_metric="recall").best_metric == "recall"


def test_the_schema_of_a_config_names_every_metric_that_can_be_computed() -> None:
    schema = EvaluationConfig.model_json_schema()["properties"]["metrics"]["items"]
    assert schema == {"type": "string", "enum": list(named_metrics())}
    assert set(default_metrics()) < set(named_metrics())


@pytest.mark.parametrize("fields", [{"metrics": ["fod"]}, {"best_metric": "fod"}, {"best_metric": "empty_control_mse"}])
def test_a_metric_that_does_not_exist_is_refused_with_those_that_do(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="coverage"):
        EvaluationConfig.model_validate(fields)


def test_the_presets_guide_as_the_publications_do() -> None:
    for preset in ("paper", "dit"):
        found = judged(preset=preset)
        assert (found.sampler, found.guidance_scale, found.guided_channels) == ("ddpm", 1.5, 3)
    assert judged(preset="dit", guided_channels=None).guided_channels is None


@pytest.mark.parametrize("interval", [[0.5, 0.5], [0.8, 0.1], [-0.1, 1], [0, 1.1], [0.5]])
def test_a_guidance_interval_rises_within_the_chain(interval: list[float]) -> None:
    assert judged(guidance_interval=[0.1, 0.8]).guidance_interval == (0.1, 0.8)
    with pytest.raises(ValidationError) as caught:
        judged(guidance_interval=interval)
    assert caught.value.errors()[0]["loc"][:2] == ("evaluation", "guidance_interval")
