"""Two jobs that share a cache folder train on what each trains on alone, whichever comes first; both families."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from difftune_core.config.transfer import TransferConfig
from difftune_core.families.controlnet.batch import ControlledData
from difftune_core.families.preparation import Folders
from difftune_core.families.table import find_base_model
from difftune_core.networks.dit import DiT
from difftune_core.train.run import prepared
from tests.core.conftest import RecordingHooks
from tests.core.control.toy import ToyRuns, write_scenes, write_stable_diffusion
from tests.core.runs import BUNDLED, toy_folders

QUICK = {"every_steps": None, "holdout_fraction": 0.1, "num_images": 8, "num_inference_steps": 1}


@dataclass(frozen=True)
class Family:
    """Configs and data sets by the job's name, and the models that they need."""

    jobs: dict[str, tuple[TransferConfig, Path]]
    models: list[Path]

    def used(self, job: str, cache: Path) -> dict[str, Any]:
        """What a job trains on and is judged by, up to its first step: sha256 of latents and text, and references."""
        config, source = self.jobs[job]
        out = cache.with_name(f"{cache.name}-{job}")
        out.mkdir(parents=True)
        folders = Folders(source, None, self.models, cache, out)
        base = find_base_model(config.model, self.models)
        run = prepared(config, base, folders, RecordingHooks(), torch.device("cpu"))
        found = {"latents": run.loop.envelope["target_latents"], "held_out": run.task.rows[1].digest}
        if isinstance(data := run.task.data, ControlledData):
            return {**found, "controls": data.target.controls.tolist(), "text": data.target.text.tolist()}
        return {**found, "references": without_times(run.task.judge.references(lambda _: None))}


def without_times(references: dict[str, Any]) -> str:
    return json.dumps({name: {**entry, "seconds": None} for name, entry in references.items()}, sort_keys=True)


def reversed_names(folder: Path, target: Path) -> Path:
    """The same images of each class, so named that they come in the opposite order."""
    for path in sorted(folder.glob("*/*")):
        place = target / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place / f"{999 - int(path.stem)}{path.suffix}")
    return target


@pytest.fixture
def dit(toy_model: DiT, tmp_path: Path) -> Family:
    """Seeds 1 and 3 of 5 classes of 10 images hold out other images whose places have one sum."""
    toy = toy_folders(toy_model, tmp_path)
    shutil.rmtree(toy.data)
    rng = np.random.default_rng(0)
    for i in range(50):
        (toy.data / str(i % 5)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(toy.data / str(i % 5) / f"{i:03}.png")
    plain = toy.config(evaluation=QUICK, recipe="distillation")  # which needs no retention set
    first, third = (plain.model_copy(update={"seed": seed}) for seed in (1, 3))
    renamed = reversed_names(toy.data, tmp_path / "renamed")
    return Family({"1": (first, toy.data), "3": (third, toy.data), "renamed": (first, renamed)}, [toy.models, BUNDLED])


@pytest.fixture
def controlnet(tmp_path: Path) -> Family:
    (tmp_path / "models").mkdir()
    write_stable_diffusion(tmp_path / "models" / "toy-sd")
    toy = ToyRuns(tmp_path)
    write_scenes(toy.data, controls=None)
    first = toy.config("supervised", evaluation=QUICK)
    second = first.model_copy(update={"seed": 4})
    return Family({"1": (first, toy.data), "3": (second, toy.data)}, toy.models)


@pytest.mark.parametrize(
    ("family", "one", "other"), [("dit", "1", "3"), ("dit", "1", "renamed"), ("controlnet", "1", "3")]
)
def test_a_shared_cache_changes_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, family: str, one: str, other: str
) -> None:
    found: Family = request.getfixturevalue(family)
    alone = {job: found.used(job, tmp_path / f"alone-{job}") for job in (one, other)}
    assert alone[one]["latents"] != alone[other]["latents"]
    for order in ((one, other), (other, one)):
        shared = tmp_path / f"shared-{'-'.join(order)}"
        assert {job: found.used(job, shared) for job in order} == alone
