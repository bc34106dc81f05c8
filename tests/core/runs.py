"""Whole runs at the smallest scale: the bundled autoencoder and feature network, and a DiT of random values."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import save_file

import difftune_core
from difftune_core.config.card import CARD_FILE, BaseModelCard, read_card
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.dit.files import write_dit_config
from difftune_core.families.preparation import Folders
from difftune_core.files import folder_digest
from difftune_core.hooks import OutcomeEvent
from difftune_core.networks.dit import DiT
from difftune_core.train.run import train
from tests.core.conftest import RecordingHooks

BUNDLED = Path(difftune_core.__file__).parent / "weights"
EVALUATION = {"num_images": 8, "num_inference_steps": 2, "every_steps": 2}
_TOLD_BY_THE_CLOCK = frozenset({"progress", "span"})
_OF_THIS_MACHINE = ("sha256", "bytes", "file", "files")
RETENTION = {"num_images": 8, "num_inference_steps": 2}


@dataclass(frozen=True)
class ToyFolders:
    """A base model `toy` and a data set of noise in two classes."""

    root: Path

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def data(self) -> Path:
        return self.root / "data"

    def config(
        self, *, evaluation: dict[str, Any], samples: dict[str, Any] | None = None, **hyperparameters: object
    ) -> TransferConfig:
        given = {"max_steps": 4, "batch_size": 4, **hyperparameters}
        method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": given}}
        fields = {"model": "toy", "method": method, "evaluation": {"holdout_fraction": 0.3, **evaluation}}
        fields["samples"] = samples or {"num_images": 0}
        return resolve(TransferConfig.model_validate(fields), read_card(self.models / "toy"), num_threads=1)

    def train(self, config: TransferConfig, out: str, hooks: RecordingHooks) -> OutcomeEvent:
        folder = self.root / out
        folder.mkdir(exist_ok=True)
        return train(config, Folders(self.data, None, [self.models, BUNDLED], self.root / "cache", folder), hooks)


def left_by(hooks: RecordingHooks, out: Path) -> dict[str, Any]:
    """What a run has told and left: its report, its events in order, its files."""
    told = [event.model_dump(mode="json") for event in hooks.events if event.type not in _TOLD_BY_THE_CLOCK]
    for event in told:
        event.update({name: None for name in _OF_THIS_MACHINE if name in event})
    return {
        "report": json.loads((out / "report.json").read_text(encoding="utf-8")),
        "events": told,
        "files": sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()),
    }


def toy_folders(model: DiT, root: Path) -> ToyFolders:
    folder = root / "models" / "toy"
    shutil.copytree(BUNDLED / "tiny-dit" / "vae", folder / "vae")
    (folder / "dit").mkdir()
    save_file(model.state_dict(), folder / "dit" / "model.safetensors")
    write_dit_config(folder / "dit", model.config)
    fields = {"id": "toy", "family": "dit", "image_size": 32, "num_classes": 3, "feature_extractor": "tiny-features"}
    defaults = {"retention_set": RETENTION, "evaluation": EVALUATION}
    made = {"digest": folder_digest(folder), "process": model.config.process, "defaults": defaults}
    card = BaseModelCard.model_validate({**fields, **made})
    (folder / CARD_FILE).write_text(card.model_dump_json(), encoding="utf-8")
    rng = np.random.default_rng(0)
    for i in range(12):
        (root / "data" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "data" / str(i % 2) / f"{i}.png")
    return ToyFolders(root)
