"""What a run delivers and when it ends, by its own evaluations. `l2_from_base` only grows: the first is the best."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from difftune_core.checkpoint.manifest import whole
from difftune_core.hooks import ArtifactEvent, BestEvent, CheckpointEvent, LogEvent, MetricsEvent, TaskError
from difftune_core.models.dit import DiT
from tests.core.conftest import RecordingHooks
from tests.core.runs import ToyFolders, toy_folders

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
    config = toy.config(evaluation={"every_steps": None, "other_guidance": ["none", "domain", "cfg"]})
    toy.train(config, "beside", hooks)
    beside = report_of(toy, "beside")
    others = beside["evaluations"][-1]["other_guidance"]
    assert list(others) == ["none", "domain"], "the main one is not measured twice"
    for name in others:
        toy.train(toy.config(evaluation={"every_steps": None, "guidance": name}), name, RecordingHooks())
        main = report_of(toy, name)["evaluations"][-1]
        assert (main["fid"], main["kid"]) == (others[name]["fid"], others[name]["kid"])
    assert len({beside["evaluations"][-1]["fid"], *(found["fid"] for found in others.values())}) == 3
    assert list(beside["references"]["base_model"]["other_guidance"]) == ["none"], "domain is cfg to the base model"
    newest = {name: value for event in told(hooks, MetricsEvent) for name, value in event.values.items()}
    assert newest["eval_fid_guidance_domain"] == others["domain"]["fid"]
    page = (toy.root / "beside" / "report.html").read_text(encoding="utf-8")
    assert "guidance none" in page
    assert "guidance domain" in page


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
    toy.train(toy.config(evaluation=BY_DISTANCE, max_steps=3, checkpoint_every_steps=3), "out", hooks)
    assert [event.step for event in told(hooks, CheckpointEvent)] == [1, 3]
    assert report_of(toy, "out")["delivered_step"] == 3


def test_training_ends_when_patience_does_and_says_why(toy: ToyFolders) -> None:
    hooks = RecordingHooks()
    config = toy.config(evaluation={**BY_DISTANCE, "early_stopping": {"patience": 2}}, max_steps=9)
    outcome = toy.train(config, "out", hooks)
    assert (outcome.code, outcome.step) == ("succeeded", 3)
    last = told(hooks, CheckpointEvent)[-1]
    assert (last.step, last.is_last) == (3, True)
    (sentence,) = [e.message for e in told(hooks, LogEvent)]
    assert sentence.startswith("Stopped early at step 3: l2_from_base has not improved in 2 evaluations; the best is ")
    report = report_of(toy, "out")
    assert sentence in report["notes"]
    assert [entry["step"] for entry in report["evaluations"]] == [1, 2, 3]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_patience_is_exact_over_a_resume(cut: int, toy: ToyFolders) -> None:
    config = toy.config(evaluation={**BY_DISTANCE, "early_stopping": {"patience": 3}, "deliver": "best"}, max_steps=9)
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
