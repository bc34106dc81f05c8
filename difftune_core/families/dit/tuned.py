"""Checkpoints as an analysis takes them: whole, of one base model, trained on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from difftune_core.checkpoint.begin import delivered_weights
from difftune_core.checkpoint.manifest import Manifest
from difftune_core.families.base_model import BaseModel
from difftune_core.families.dit.files import load_dit, read_dit_config
from difftune_core.files import sha256_file
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT
from difftune_core.networks.state import CONFIG


@dataclass(frozen=True)
class TunedCheckpoint:
    """A checkpoint's delivered weights, the average, checked against its manifest."""

    name: str
    """What the caller calls the model."""
    folder: Path
    step: int
    digest: str
    """sha256 of the weights."""

    @property
    def contents(self) -> list[str]:
        """Identifies weights and anatomy."""
        return [self.digest, sha256_file(self.folder / CONFIG)]

    def load(self, device: torch.device) -> DiT:
        """The model."""
        return load_dit(self.folder, read_dit_config(self.folder), device).eval()


def open_checkpoints(
    folders: Mapping[str, Path], base: BaseModel, *, training_data: Sequence[str], num_classes: int
) -> list[TunedCheckpoint]:
    """The checkpoints in `folders` by their names.

    Args:
        folders: name to a checkpoint's folder; what only a resume needs may be missing from it.
        base: the base model that all must have been tuned from.
        training_data: names in a checkpoint of the images that belong to the held-out ones, today's first.
        num_classes: of the data set.

    Raises:
        TaskError: `invalid_checkpoint`; `checkpoint_mismatch`, another base model or other data, with both digests.
    """
    opened = [_open(name, folder) for name, folder in folders.items()]
    for found, manifest in opened:
        _same(found.name, "base model", manifest.identity.get("base_model"), base.card.digest)
        _same(found.name, "training data", manifest.identity.get("training_data"), *training_data)
        classes = read_dit_config(found.folder).num_classes
        if classes != num_classes:
            message = f"{found.name} has {classes} classes, the data set {num_classes}"
            raise TaskError("checkpoint_mismatch", message, "checkpoints")
    return [found for found, _ in opened]


def _open(name: str, folder: Path) -> tuple[TunedCheckpoint, Manifest]:
    manifest, digest = delivered_weights(folder, name, "checkpoints")
    return TunedCheckpoint(name, folder, manifest.step, digest), manifest


def _same(name: str, what: str, theirs: object, *ours: str) -> None:
    if theirs not in ours:
        message = f"{name} was tuned with another {what}: {theirs}, not {ours[0]}"
        raise TaskError("checkpoint_mismatch", message, "checkpoints")
