"""The base model's images that a judge compares with: drawn as the evaluation draws, once for all jobs that do so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from difftune_core.checkpoint.manifest import MANIFEST, Manifest
from difftune_core.config.retention import JudgedImagesConfig
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.dit.base_model import DiTModel
from difftune_core.families.preparation import Folders, JudgedSource, Preparation
from difftune_core.families.table import find_base_model
from difftune_core.networks.dit import DiT
from tests.core.conftest import RecordingHooks
from tests.core.runs import BUNDLED, RETENTION, ToyFolders, toy_folders

ASKED = {"num_images": 4, "num_inference_steps": 1, "guidance_scale": 3.0, "guided_channels": 3}


@pytest.fixture
def toy(toy_model: DiT, tmp_path: Path) -> ToyFolders:
    return toy_folders(toy_model, tmp_path)


def judged(toy: ToyFolders, out: str = "out", **evaluation: Any) -> JudgedSource:
    roots = [toy.models, BUNDLED]
    folders = Folders(toy.data, None, roots, toy.root / "cache", toy.root / out)
    config = toy.config(evaluation=evaluation)
    torch.set_num_threads(1)
    preparation = Preparation(config, find_base_model("toy", roots), folders, RecordingHooks(), torch.device("cpu"))
    return preparation.judged_source()


def begun(toy: ToyFolders, *evaluations: dict[str, Any]) -> None:
    """Leave a checkpoint whose figures are these."""
    folder = toy.root / "out" / "checkpoints" / "step-00000002"
    folder.mkdir(parents=True)
    history = {"curves": {}, "evaluations": list(evaluations)}
    manifest = Manifest(step=2, target_images=8, identity={}, envelope={}, history=history, files=[])
    (folder / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")


def test_they_are_drawn_as_the_evaluation_draws(toy: ToyFolders) -> None:
    found = judged(toy, **ASKED)
    assert found.sampling == Sampling(num_inference_steps=1, guidance_scale=3.0, guided_channels=3, seed=1)
    assert found.recipe["base_model_images"]["guided_channels"] == 3
    base = find_base_model("toy", [toy.models])
    assert isinstance(base, DiTModel)
    same = JudgedImagesConfig(num_inference_steps=1, guidance_scale=3.0, guided_channels=3, seed=1)
    drawn = base.drawer(same, "cpu")(torch.arange(4) % 3, 0, lambda _: None)
    assert np.array_equal(found.found.images, drawn)


def test_of_guidances_the_base_model_has_its_own_alone(toy: ToyFolders) -> None:
    assert judged(toy, **ASKED, guidance="none").sampling.guidance_scale == 1.0
    assert judged(toy, **ASKED, guidance="domain").sampling == judged(toy, **ASKED).sampling


def test_a_second_job_draws_none(toy: ToyFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    first = judged(toy, **ASKED)
    monkeypatch.setattr(DiTModel, "load_dit", lambda *_: pytest.fail("nothing is to be drawn"))
    again = judged(toy, "of another job", **ASKED, every_steps=1, other_guidance=["none"])
    assert again.found.digest == first.found.digest


def test_where_nothing_else_is_asked_they_are_the_former_ones(toy: ToyFolders) -> None:
    """Reports of both versions can then be compared, and nothing is drawn anew."""
    found = judged(toy, num_images=4)
    assert found.sampling.num_inference_steps == RETENTION["num_inference_steps"]
    assert found.recipe == {}


def test_a_job_goes_on_with_the_images_that_its_figures_are_beside(toy: ToyFolders) -> None:
    new, former = judged(toy, **ASKED), judged(toy, num_images=4)
    begun(toy, {"step": 1, "forgetting": {"null_fid": 1.0, "num_source": 4}})
    kept = judged(toy, **ASKED)
    assert kept.found.digest == former.found.digest != new.found.digest
    assert kept.recipe == {}


@pytest.mark.parametrize("named", [{"num_source": 4, "null_fid": 1.0}, {"num_source": None}], ids=["new", "none yet"])
def test_a_job_of_this_version_goes_on_as_it_began(toy: ToyFolders, named: dict[str, Any]) -> None:
    new = judged(toy, **ASKED)
    begun(toy, {"step": 1, "forgetting": {**named, "source": new.found.digest}})
    assert judged(toy, **ASKED).found.digest == new.found.digest
