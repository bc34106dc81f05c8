"""A job that version 0.3.0 began goes on: exactly, or as continued where its cached latents were of other images."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest
import torch

from difftune_core.data.dataset import open_dataset
from difftune_core.files import sha256_json
from difftune_core.hooks import LogEvent, ResumeEvent, TaskError
from difftune_core.networks.dit import DiT
from tests.core.conftest import RecordingHooks
from tests.core.runs import ToyFolders, toy_folders

UNJUDGED = {"every_steps": None, "holdout_fraction": 0.3}
PROMPTS = {"type": "vpt", "num_tokens": 3, "zero_gate": False}  # no export, which would take most of the time
SHORT = {
    "recipe": "distillation",
    "max_steps": 3,
    "checkpoint_every_steps": 3,
    "log_every_steps": 1,
    "adapter": PROMPTS,
}
KEPT = "kept:8:45"
"""Four images of each of the two classes of six, and the sum of their places."""


@pytest.fixture
def toy(toy_model: DiT, tmp_path: Path) -> ToyFolders:
    return toy_folders(toy_model, tmp_path)


def earlier(toy: ToyFolders, part: str) -> str:
    """What 0.3.0 called a part of the images: by their contents in no order, their number and sum of places."""
    dataset = open_dataset(toy.data)
    return f"{sha256_json(sorted(dataset.contents))}:{part}"


def begun(toy: ToyFolders, training_data: str, **envelope: str) -> RecordingHooks:
    """Two steps, with a manifest that says this of training data and envelope, and what resuming them tells."""
    config = toy.config(evaluation=UNJUDGED, **SHORT)
    toy.train(config, "out", RecordingHooks(stop_at=2))
    (path,) = (toy.root / "out" / "checkpoints").glob("step-*/manifest.json")
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    manifest["identity"]["training_data"] = training_data
    manifest["envelope"] |= envelope
    path.write_text(json.dumps(manifest), encoding="utf-8")
    hooks = RecordingHooks()
    assert toy.train(config, "out", hooks).code == "succeeded"
    return hooks


def told(hooks: RecordingHooks) -> tuple[list[str], list[str]]:
    """What has changed since the checkpoint was saved, and the warnings that say so."""
    (resumed,) = [event for event in hooks.events if isinstance(event, ResumeEvent)]
    logs = [event.message for event in hooks.events if isinstance(event, LogEvent)]
    return resumed.changed, [message for message in logs if "other images" in message]


def test_with_the_same_latents_it_goes_on_exactly_under_its_old_name(toy: ToyFolders) -> None:
    name = earlier(toy, KEPT)
    assert told(begun(toy, name)) == ([], [])
    manifests = sorted((toy.root / "out" / "checkpoints").glob("step-*/manifest.json"))
    assert {json.loads(path.read_bytes())["identity"]["training_data"] for path in manifests} == {name}


def test_with_other_latents_it_is_continued_and_says_of_what(toy: ToyFolders) -> None:
    family = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"  # all that 0.3.0 told of a processor
    changed, warnings = told(begun(toy, earlier(toy, KEPT), target_latents="of another split", processor=family))
    assert changed == ["processor", "target_latents"]
    assert warnings == [
        "Up to step 2 this job was trained on latents of other images than its own, from the cache: target_latents"
    ]


def test_on_another_machine_other_latents_are_no_sign_of_other_images(toy: ToyFolders) -> None:
    changed, warnings = told(begun(toy, earlier(toy, KEPT), target_latents="rounded otherwise", processor="another"))
    assert changed == ["processor", "target_latents"]
    assert warnings == []


def test_images_that_are_not_its_own_are_refused_as_ever(toy: ToyFolders) -> None:
    with pytest.raises(TaskError, match="training_data differ") as refused:
        begun(toy, earlier(toy, "kept:8:46"))
    assert refused.value.code == "checkpoint_mismatch"
