"""The family of docs/extending.md, brought by another distribution: 8 x 8 pixels and two layers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from difftune_core.config import families
from difftune_core.config.card import CARD_FILE, BaseModelCard, read_card
from difftune_core.config.families import rules_of
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.preparation import Folders
from difftune_core.files import folder_digest
from difftune_core.hooks import TaskError
from difftune_core.train.run import train
from tests.core.conftest import RecordingHooks
from tests.core.distributions import documented
from tests.core.runs import BUNDLED

QUICK: dict[str, Any] = {
    "retention_set": {"num_images": 12, "num_inference_steps": 2},
    "evaluation": {"num_images": 16, "num_inference_steps": 2, "every_steps": 2},
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    families.all_rules.cache_clear()
    with documented("A model family", "my_family", tmp_path, monkeypatch) as site:
        yield site
    families.all_rules.cache_clear()


@dataclass(frozen=True)
class Pixels:
    """A base model of the family, and a data set of noise in three classes."""

    root: Path

    @property
    def card(self) -> BaseModelCard:
        return read_card(self.root / "models" / "my-pixels")

    def config(self, method: str = "diff_tuning", **hyperparameters: object) -> TransferConfig:
        given = {"max_steps": 4, "batch_size": 8, **hyperparameters}
        fields = {"model": "my-pixels", "method": {"type": method, method: {"hyperparameters": given}}}
        return resolve(TransferConfig.model_validate(fields), self.card, num_threads=1)

    def train(self, config: TransferConfig, out: str, hooks: RecordingHooks) -> str:
        folder = self.root / out
        folder.mkdir(exist_ok=True)
        models = [self.root / "models", BUNDLED]
        return train(config, Folders(self.root / "data", None, models, self.root / "cache", folder), hooks).code


@pytest.fixture
def pixels(installed: Path, tmp_path: Path) -> Pixels:
    from my_family.family import Network  # type: ignore[import-not-found]  # written by the fixture

    assert installed
    folder = tmp_path / "models" / "my-pixels"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_file(Network(5).state_dict(), folder / "network.safetensors")
    fields = {"id": "my-pixels", "family": "pixels", "image_size": 8, "num_classes": 5, "defaults": QUICK}
    made = {"feature_extractor": "tiny-features", "digest": folder_digest(folder)}
    (folder / CARD_FILE).write_text(BaseModelCard.model_validate({**fields, **made}).model_dump_json())
    rng = np.random.default_rng(0)
    for i in range(30):
        place = tmp_path / "data" / "abc"[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(place / f"{i}.png")
    return Pixels(tmp_path)


def test_a_job_of_it_is_tuned_judged_and_reported(pixels: Pixels) -> None:
    hooks = RecordingHooks()
    assert pixels.train(pixels.config(), "out", hooks) == "succeeded"
    report = json.loads((pixels.root / "out" / "report.json").read_text())
    assert [entry["step"] for entry in report["evaluations"]] == [2, 4]
    assert report["dataset"]["class_names"] == ["a", "b", "c"]
    assert report["references"]["autoencoder_floor"]["fid"] == pytest.approx(0, abs=1e-3)
    assert report["retention_set"]["num_images"] == 12
    assert {event.kind for event in hooks.events if event.type == "artifact"} >= {"report_json", "report_html"}


def test_a_recipe_may_ask_its_base_model(pixels: Pixels) -> None:
    assert pixels.train(pixels.config(recipe="distillation", max_steps=2), "out", RecordingHooks()) == "succeeded"
    report = json.loads((pixels.root / "out" / "report.json").read_text())
    assert report["retention_set"] is None
    assert report["curves"]["retention_loss"]


def test_a_recipe_that_asks_it_is_refused_where_the_family_cannot(
    pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(rules_of(pixels.card)), "has_teacher", False)
    with pytest.raises(TaskError) as refused:
        pixels.config(recipe="distillation")
    assert (refused.value.code, refused.value.param) == (
        "recipe_not_for_model",
        "method.diff_tuning.hyperparameters.recipe",
    )


def test_it_goes_on_where_it_stopped_with_the_same_bytes(pixels: Pixels) -> None:
    config = pixels.config(log_every_steps=1)
    assert pixels.train(config, "once", RecordingHooks()) == "succeeded"
    assert pixels.train(config, "cut", RecordingHooks(stop_at=3)) == "stopped"
    assert pixels.train(config, "cut", RecordingHooks()) == "succeeded"
    once, cut = ((pixels.root / out / "checkpoints").glob("step-00000004/*.safetensors") for out in ("once", "cut"))
    assert {path.name: path.read_bytes() for path in once} == {path.name: path.read_bytes() for path in cut}


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"control": {"condition": "edge"}}, "control_not_for_model", "control"),
        ({"evaluation": {"clip_model": "a-clip"}}, "clip_not_for_model", "evaluation.clip_model"),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparameters": {"adapter": {"type": "lora"}}}}},
            "adapter_not_for_model",
            "method.supervised.hyperparameters.adapter",
        ),
    ],
)
def test_what_it_cannot_do_is_refused_at_submit(pixels: Pixels, fields: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(TaskError) as refused:
        resolve(TransferConfig.model_validate({"model": "my-pixels", **fields}), pixels.card, num_threads=1)
    assert (refused.value.code, refused.value.param) == (code, param)


def test_a_model_of_a_family_that_is_not_there_is_named() -> None:
    card = BaseModelCard(id="gone", family="pixels", image_size=8, feature_extractor="x", digest="x")
    with pytest.raises(TaskError, match="'pixels', which is not installed here") as refused:
        rules_of(card)
    assert refused.value.code == "family_unknown"


def test_every_process_finds_the_rules_of_all_families_without_torch(installed: Path) -> None:
    code = (
        "import sys, json; from difftune_core.config.families import all_rules;"
        "print(json.dumps([list(all_rules()), 'torch' in sys.modules or 'numpy' in sys.modules]))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    assert json.loads(done.stdout) == [["dit", "stable-diffusion", "pixels"], False]
