"""Whole runs with an adapter, on the bundled autoencoder and feature network and a DiT of random values."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import difftune_core
from difftune_core.config.card import CARD_FILE, BaseModelCard
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.dit.files import load_dit, read_dit_config, write_dit_config
from difftune_core.families.preparation import Folders
from difftune_core.files import folder_digest
from difftune_core.hooks import ArtifactEvent, CheckpointEvent, LogEvent, TaskError
from difftune_core.networks.dit import DiT
from difftune_core.train.run import train
from tests.core.conftest import RecordingHooks
from tests.core.runs import left_by
from tests.golden import assert_golden

BUNDLED = Path(difftune_core.__file__).parent / "weights"
EVALUATION = {"num_images": 8, "num_inference_steps": 2, "every_steps": 2}
RETENTION = {"num_images": 8, "num_inference_steps": 2}


@pytest.fixture
def card(toy_model: DiT, tmp_path: Path) -> BaseModelCard:
    folder = tmp_path / "models" / "toy"
    shutil.copytree(BUNDLED / "tiny-dit" / "vae", folder / "vae")
    (folder / "dit").mkdir()
    save_file(toy_model.state_dict(), folder / "dit" / "model.safetensors")
    write_dit_config(folder / "dit", toy_model.config)
    fields = {"id": "toy", "family": "dit", "image_size": 32, "num_classes": 3, "feature_extractor": "tiny-features"}
    defaults = {"retention_set": RETENTION, "evaluation": EVALUATION}
    card = BaseModelCard.model_validate({**fields, "digest": folder_digest(folder), "defaults": defaults})
    (folder / CARD_FILE).write_text(card.model_dump_json(), encoding="utf-8")
    return card


def run(card: BaseModelCard, adapter: dict[str, object], root: Path) -> RecordingHooks:
    """Train 4 steps on noise of two classes."""
    rng = np.random.default_rng(0)
    for i in range(12):
        (root / "data" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "data" / str(i % 2) / f"{i}.png")
    given = {"max_steps": 4, "batch_size": 4, "adapter": adapter}
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": given}}
    evaluation = {"holdout_fraction": 0.3}
    fields = {"model": "toy", "method": method, "evaluation": evaluation}
    config = resolve(TransferConfig.model_validate(fields), card, num_threads=1)
    (root / "out").mkdir()
    hooks = RecordingHooks()
    roots = [root / "models", BUNDLED]
    outcome = train(config, Folders(root / "data", None, roots, root / "cache", root / "out"), hooks)
    assert outcome.code == "succeeded"
    return hooks


def artifacts(hooks: RecordingHooks) -> set[str]:
    return {event.kind for event in hooks.events if isinstance(event, ArtifactEvent)}


def distances(out: Path) -> list[float]:

    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert 0 < report["model"]["trainable_parameters"] < report["model"]["parameters"]
    return [entry["l2_from_base"] for entry in report["evaluations"]]


def test_what_merges_is_exported(card: BaseModelCard, tmp_path: Path) -> None:
    hooks = run(card, {"type": "difffit"}, tmp_path)
    assert "export_diffusers" in artifacts(hooks)
    assert zipfile.is_zipfile(tmp_path / "out" / "diffusers.zip")
    first, last = distances(tmp_path / "out")
    assert 0 < first < last
    assert_golden("dit_run.json", left_by(hooks, tmp_path / "out"))


def test_what_does_not_merge_is_delivered_without_an_export(card: BaseModelCard, tmp_path: Path) -> None:
    hooks = run(card, {"type": "vpt", "num_tokens": 3, "zero_gate": False}, tmp_path)
    assert artifacts(hooks) == {"report_json", "report_html", "samples"}
    told = [event.message for event in hooks.events if isinstance(event, LogEvent)]
    assert told == ["no diffusers export: vpt is no change of weights and cannot be merged into them"]
    first, last = distances(tmp_path / "out")
    assert 0 < first < last, "from the prompts' first values, which the seed gives again"
    files = {file.path for event in hooks.events if isinstance(event, CheckpointEvent) for file in event.files}
    assert "adapter.safetensors" in files
    folder = tmp_path / "out" / "checkpoints" / "step-00000004"
    model = load_dit(folder, read_dit_config(folder))
    with torch.no_grad():
        assert model(torch.zeros(1, 4, 8, 8), torch.zeros(1), torch.tensor([2])).isfinite().all()


def test_an_adapter_that_matches_nothing_ends_the_run_before_any_work(card: BaseModelCard, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"no linear layer is named blocks\.99\.attn\.qkv") as caught:
        run(card, {"type": "lora", "targets": ["blocks.99.attn.qkv"]}, tmp_path)
    assert caught.value.code == "adapter_matches_nothing"
    cached = {path.name for path in (tmp_path / "cache").glob("*/*")}
    assert cached == {"pixels"}, "what the images are, by which they are split; no latents"
