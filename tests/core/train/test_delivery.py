"""What a run delivers and when it ends, by its own evaluations. `l2_from_base` only grows: the first is the best."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from difftune_core.checkpoint.manifest import whole
from difftune_core.config.stored import read_stored
from difftune_core.config.transfer import TransferConfig
from difftune_core.hooks import ArtifactEvent, BestEvent, CheckpointEvent, LogEvent, MetricsEvent, TaskError
from difftune_core.networks.dit import DiT
from tests.core.conftest import RecordingHooks
from tests.core.runs import BUNDLED, ToyFolders, toy_folders

PROMPTS = {"type": "vpt", "num_tokens": 3, "zero_gate": False}  # no export, which would take most of the time
BY_DISTANCE = {"every_steps": 1, "best_metric": "l2_from_base"}


@pytest.fixture
def toy(toy_model: DiT, tmp_path: Path) -> ToyFolders:
    return toy_folders(toy_model, tmp_path)


def report_of(toy: ToyFolders, out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((toy.root / out / "report.json").read_text(encoding="utf-8"))
    return found


def told(hooks: RecordingHooks, kind: type) -> list[Any]:
    return [event for event in hooks.events if isinstance(event, kind)]


def test_other_guidances_are_measured_from_the_same_seeds(toy: ToyFolders) -> None:
    hooks = RecordingHooks()
    beside = {"every_steps": None, "other_guidance": ["none", "domain", "cfg"]}
    config = toy.config(evaluation=beside, adapter=PROMPTS)
    toy.train(config, "beside", hooks)
    report = report_of(toy, "beside")
    others = report["evaluations"][-1]["other_guidance"]
    assert list(others) == ["none", "domain"], "the main one is not measured twice"
    for name in others:
        judged = {"every_steps": None, "guidance": name}
        toy.train(toy.config(evaluation=judged, adapter=PROMPTS), name, RecordingHooks())
        main = report_of(toy, name)["evaluations"][-1]
        assert (main["fid"], main["kid"]) == (others[name]["fid"], others[name]["kid"])
    assert len({report["evaluations"][-1]["fid"], *(found["fid"] for found in others.values())}) == 3
    assert list(report["references"]["base_model"]["other_guidance"]) == ["none"], "domain is cfg to the base model"
    newest = {name: value for event in told(hooks, MetricsEvent) for name, value in event.values.items()}
    assert newest["eval_fid_guidance_domain"] == others["domain"]["fid"]
    page = (toy.root / "beside" / "report.html").read_text(encoding="utf-8")
    assert "guidance none" in page
    assert "guidance domain" in page


def test_a_further_extractor_gives_a_distance_of_its_own(toy: ToyFolders) -> None:
    """A copy of the main one: its distance is FID, error and all."""
    shutil.copytree(BUNDLED / "tiny-features", toy.models / "second", ignore=shutil.ignore_patterns("card.json"))
    hooks = RecordingHooks()
    judged = {"feature_extractors": ["tiny-features", "second"], "best_metric": "fd_second", "every_steps": 2}
    judged["metrics"] = ["precision_recall", "fid_infinity"]
    toy.train(toy.config(evaluation=judged, adapter=PROMPTS), "out", hooks)
    report = report_of(toy, "out")
    judged_all = [*report["evaluations"], *report["references"].values()]
    whole = [entry for entry in judged_all if entry["fid"] is not None]  # KID needs more images, and FID waits for it
    assert len(whole) >= len(report["evaluations"])
    for entry in whole:
        assert (entry["fd_second"], entry["fd_second_se"]) == pytest.approx((entry["fid"], entry["fid_se"]))
    digests = report["recipe"]["other_feature_extractors"]
    assert digests == {"second": report["recipe"]["feature_extractor_digest"]}
    assert any("fd_second: 4 images for 64 features" in warning for warning in report["evaluations"][0]["warnings"])
    assert "FD second" in (toy.root / "out" / "report.html").read_text(encoding="utf-8")
    measured = {name for event in told(hooks, MetricsEvent) for name in event.values}
    assert {"eval_fd_second", "eval_l2_from_base"} <= measured
    assert report["evaluations"][0]["fid_infinity"] is None, "too few images, which is no failure"
    assert report["recipe"]["metrics"] == ["precision_recall", "fid_infinity"]
    assert {event.metric for event in told(hooks, BestEvent)} == {"fd_second"}


def test_an_extractor_that_is_not_installed_ends_the_run_before_any_work(toy: ToyFolders) -> None:
    config = toy.config(evaluation={"feature_extractors": ["tiny-features", "nowhere"]})
    with pytest.raises(TaskError, match="'nowhere' is not installed"):
        toy.train(config, "out", RecordingHooks())
    assert not (toy.root / "cache").exists()


def test_a_metric_that_is_no_longer_installed_ends_the_run_before_any_work(toy: ToyFolders) -> None:
    settings = toy.config(evaluation={}).model_dump(mode="json")
    settings["evaluation"] |= {"metrics": ["fid", "gone"]}
    with pytest.raises(TaskError, match="no metric 'gone'") as caught:
        toy.train(read_stored(TransferConfig, settings), "out", RecordingHooks())
    assert caught.value.code == "metric_unknown"
    assert not (toy.root / "cache").exists()


def test_the_best_checkpoint_stays_on_disk_and_is_what_is_delivered(toy: ToyFolders) -> None:
    hooks = RecordingHooks()
    config = toy.config(evaluation={**BY_DISTANCE, "deliver": "best"}, max_steps=5, checkpoint_every_steps=2)
    toy.train(config, "out", hooks)
    assert [event.step for event in told(hooks, BestEvent)] == [1]
    assert [event.step for event in told(hooks, CheckpointEvent)] == [1, 2, 4, 5], "1 was not due, but the best"
    kept = sorted(path.name for path in (toy.root / "out" / "checkpoints").glob("step-*"))
    assert kept == ["step-00000001", "step-00000004", "step-00000005"]
    report = report_of(toy, "out")
    assert (report["delivered_step"], report["best"]["step"]) == (1, 1)
    assert report["best"]["value"] == report["evaluations"][0]["l2_from_base"]
    (export,) = [event for event in told(hooks, ArtifactEvent) if event.kind == "export_diffusers"]
    assert export.step == 1
    with zipfile.ZipFile(toy.root / "out" / "diffusers.zip") as archive:
        assert json.loads(archive.read("difftune.json"))["step"] == 1


def test_an_evaluation_that_is_no_better_saves_nothing(toy: ToyFolders) -> None:
    hooks = RecordingHooks()
    config = toy.config(evaluation=BY_DISTANCE, max_steps=3, checkpoint_every_steps=3, adapter=PROMPTS)
    toy.train(config, "out", hooks)
    assert [event.step for event in told(hooks, CheckpointEvent)] == [1, 3]
    assert report_of(toy, "out")["delivered_step"] == 3


def test_training_ends_when_patience_does_and_says_why(toy: ToyFolders) -> None:
    hooks = RecordingHooks()
    judged = {**BY_DISTANCE, "early_stopping": {"patience": 2}}
    config = toy.config(evaluation=judged, max_steps=9, checkpoint_every_steps=2, adapter=PROMPTS)
    outcome = toy.train(config, "out", hooks)
    assert (outcome.code, outcome.step) == ("succeeded", 3)
    last = told(hooks, CheckpointEvent)[-1]
    assert (last.step, last.is_last) == (3, True)
    (sentence,) = [e.message for e in told(hooks, LogEvent) if e.level == "info"]
    assert sentence.startswith("Stopped early at step 3: l2_from_base has not improved in 2 evaluations; the best is ")
    report = report_of(toy, "out")
    assert sentence in report["notes"]
    assert [entry["step"] for entry in report["evaluations"]] == [1, 2, 3]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_patience_is_exact_over_a_resume(cut: int, toy: ToyFolders) -> None:
    judged = {**BY_DISTANCE, "early_stopping": {"patience": 3}, "deliver": "best"}
    config = toy.config(evaluation=judged, max_steps=9, adapter=PROMPTS)
    first = toy.train(config, "out", RecordingHooks(stop_at=cut))
    assert (first.code, first.step) == ("stopped", cut)
    hooks = RecordingHooks()
    outcome = toy.train(config, "out", hooks)
    assert (outcome.code, outcome.step) == ("succeeded", 4)
    assert {event.step for event in told(hooks, BestEvent)} == {1}, "told again: whoever listened may have died"
    assert report_of(toy, "out")["delivered_step"] == 1


def test_a_missing_best_checkpoint_is_an_error_not_another_model(toy: ToyFolders) -> None:
    config = toy.config(evaluation={**BY_DISTANCE, "deliver": "best"}, max_steps=4, checkpoint_every_steps=1)
    toy.train(config, "out", RecordingHooks(stop_at=3))
    best = toy.root / "out" / "checkpoints" / "step-00000001"
    assert whole(best) is not None
    (best / "model.safetensors").unlink()
    with pytest.raises(TaskError, match="step-00000001") as caught:
        toy.train(config, "out", RecordingHooks())
    assert caught.value.code == "checkpoint_missing"


def test_what_goes_by_a_figure_that_is_not_there_says_so_at_the_first_evaluation(toy: ToyFolders) -> None:
    hooks = RecordingHooks()
    judged = {"every_steps": 1, "deliver": "best", "early_stopping": {"patience": 1}, "holdout_fraction": 0.1}
    toy.train(toy.config(evaluation=judged, adapter=PROMPTS, max_steps=2), "unmeasured", hooks)
    [warned] = [event for event in told(hooks, LogEvent) if event.data.get("code") == "metric_without_figure"]
    assert (warned.level, warned.data["metric"]) == ("warn", "fid")
    assert warned.message.startswith("The evaluation at step 1 has no fid (KID needs at least 3 images on each side): ")
    assert "evaluation.deliver 'best' and evaluation.early_stopping does nothing" in warned.message


def test_a_result_that_is_worse_than_before_is_said_first(toy: ToyFolders) -> None:
    hooks = RecordingHooks()
    toy.train(toy.config(evaluation=BY_DISTANCE, adapter=PROMPTS, max_steps=2), "worse", hooks)
    [warned] = [event for event in told(hooks, LogEvent) if event.data.get("other_step") == 1]
    assert (warned.level, warned.data["code"], warned.data["step"]) == ("warn", "delivered_worse", 2)
    assert warned.message.startswith("The delivered checkpoint (step 2, L2 from base ")
    assert warned.message in [found["message"] for found in report_of(toy, "worse")["shortcomings"]]
    page = (toy.root / "worse" / "report.html").read_text(encoding="utf-8")
    assert page.index(warned.message) < page.index("Not comparable with published FID")
    best = BY_DISTANCE | {"deliver": "best"}
    toy.train(toy.config(evaluation=best, adapter=PROMPTS, max_steps=2), "better", RecordingHooks())
    assert not [found for found in report_of(toy, "better")["shortcomings"] if found["other_step"]]
