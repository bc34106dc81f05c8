"""Whole runs of models other than DiT's usual ones, and of distillation: trained, judged, reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from difftune_core.config.card import CARD_FILE, read_card
from difftune_core.families.dit.files import read_dit_config
from difftune_core.families.table import find_base_model
from difftune_core.files import folder_digest
from difftune_core.hooks import ArtifactEvent, LogEvent, PhaseEvent, TaskError
from difftune_core.networks.dit import DiT
from tests.core.conftest import RecordingHooks
from tests.core.runs import BUNDLED, ToyFolders, toy_folders


def like(model: DiT, **fields: Any) -> DiT:
    other = DiT(replace(model.config, **fields))
    other.load_state_dict(model.state_dict())
    return other


def finish(folders: ToyFolders, **hyperparameters: object) -> tuple[dict[str, Any], RecordingHooks]:
    hooks = RecordingHooks()
    assert folders.train(folders.config(evaluation={}, **hyperparameters), "out", hooks).code == "succeeded"
    report: dict[str, Any] = json.loads((folders.root / "out" / "report.json").read_text(encoding="utf-8"))
    return report, hooks


@pytest.mark.parametrize(
    ("fields", "recipe", "sampler"),
    [
        ({"process": "flow"}, "algorithm1", "euler"),
        ({"process": "edm"}, "distillation", "euler"),
        ({"prediction": "v"}, "released", "ddim"),
    ],
)
def test_a_model_of_any_kind_is_tuned_and_judged(
    fields: dict[str, Any], recipe: str, sampler: str, toy_model: DiT, tmp_path: Path
) -> None:
    report, hooks = finish(toy_folders(like(toy_model, **fields), tmp_path), recipe=recipe, batch_size=5)
    assert report["recipe"]["sampling"]["sampler"] == sampler
    assert len(report["evaluations"][-1]["forgetting"]["retention_loss_by_t"]) == 10
    kinds = {event.kind for event in hooks.events if isinstance(event, ArtifactEvent)}
    told = [event.message for event in hooks.events if isinstance(event, LogEvent)]
    process = fields.get("process", "ddpm")
    assert ("export_diffusers" in kinds) == (process == "ddpm")
    assert any(
        f"no diffusers export: DiTPipeline cannot sample a model of the process {process!r}" in t for t in told
    ) == (process != "ddpm")
    delivered = read_dit_config(tmp_path / "out" / "checkpoints" / "step-00000004")
    assert (delivered.process, delivered.prediction) == (process, fields.get("prediction", "epsilon"))


def test_distillation_samples_no_retention_set_to_train_on(toy_model: DiT, tmp_path: Path) -> None:
    report, hooks = finish(toy_folders(toy_model, tmp_path), recipe="distillation")
    assert report["environment"]["memory"]["measured_peak_bytes"] > 2**26
    phases = [event.phase for event in hooks.events if isinstance(event, PhaseEvent)]
    assert "building_retention_set" not in phases
    assert "drawing_base_model_images" in phases, "of the judge"
    assert report["evaluations"][-1]["target_images"] == 4 * 4


def test_what_a_config_leaves_out_is_what_older_files_leave_out() -> None:
    """The bundled model was made before there was a choice: nothing about it may change."""
    folder = BUNDLED / "tiny-dit"
    config = read_dit_config(folder / "dit")
    assert (config.process, config.prediction) == ("ddpm", "epsilon")
    assert read_card(folder).digest == folder_digest(folder)


def test_a_card_that_contradicts_the_model_is_refused(toy_model: DiT, tmp_path: Path) -> None:
    folders = toy_folders(like(toy_model, process="flow"), tmp_path)
    path = folders.models / "toy" / CARD_FILE
    path.write_text(path.read_text(encoding="utf-8").replace('"process":"flow"', '"process":"edm"'), encoding="utf-8")
    with pytest.raises(TaskError, match=r"'edm', its files 'flow'") as caught:
        find_base_model("toy", [folders.models])
    assert caught.value.code == "model_mismatch"
