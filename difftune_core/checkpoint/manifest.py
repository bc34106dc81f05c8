"""What a checkpoint folder holds, and whether it is whole: `manifest.json` is written last and names every file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from difftune_core.files import file_info, sha256_file
from difftune_core.hooks import CheckpointEvent, FileInfo

MANIFEST = "manifest.json"
MODEL = "model.safetensors"
RESUME = "resume.safetensors"
ADAPTER = "adapter.safetensors"


class Manifest(BaseModel):
    """`manifest.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: Literal[1] = 1
    step: int
    target_images: int
    identity: dict[str, Any]
    """What must be equal for a resume at all: config, base model, data sets."""
    envelope: dict[str, Any]
    """What must be equal for a resume to be exact to the byte: threads, torch, processor, latent caches."""
    history: dict[str, Any]
    files: list[FileInfo]
    """Every file of the folder but the manifest."""


def checkpoint_name(step: int) -> str:
    """Folder name; sorts by step."""
    return f"step-{step:08d}"


def stated(folder: Path) -> Manifest | None:
    """The manifest, whatever became of the files that it names; None where it cannot be read."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def whole(folder: Path) -> Manifest | None:
    """The manifest if every file is there with its size and sha256, else None."""
    manifest = stated(folder)
    for file in manifest.files if manifest is not None else ():
        path = folder / file.path
        if not path.is_file() or path.stat().st_size != file.bytes or sha256_file(path) != file.sha256:
            return None
    return manifest


def announced(folder: Path, manifest: Manifest, *, is_last: bool = False) -> CheckpointEvent:
    """The event that announces a whole checkpoint folder. What the manifest says of its files is not looked at again.

    Args:
        folder: under its final name.
        manifest: as it was written, or as `whole` found it to be true.
        is_last: whether the run ends with it.
    """
    return CheckpointEvent(
        step=manifest.step,
        name=folder.name,
        files=[*manifest.files, file_info(folder / MANIFEST, folder)],
        is_last=is_last,
        target_images=manifest.target_images,
    )


def begun_with(checkpoints: Path) -> str | None:
    """Return what the newest readable manifest calls the run's training data; None without one."""
    names = map(training_data_of, sorted(checkpoints.glob("step-*"), reverse=True))
    return next((name for name in names if name is not None), None)


def evaluations_of(checkpoints: Path) -> list[dict[str, Any]]:
    """The evaluations of a run up to its newest readable manifest; none without one."""
    for folder in sorted(checkpoints.glob("step-*"), reverse=True):
        try:
            history = Manifest.model_validate_json((folder / MANIFEST).read_bytes()).history
        except (OSError, ValidationError):
            continue
        return list(history.get("evaluations", []))
    return []


def training_data_of(folder: Path) -> str | None:
    """Return what a checkpoint's manifest calls its training data; None where it says nothing or cannot be read."""
    manifest = stated(folder)
    name = None if manifest is None else manifest.identity.get("training_data")
    return None if name is None else str(name)


def newest_whole(checkpoints: Path) -> tuple[Path, Manifest] | None:
    """The newest checkpoint that is whole; torn ones are passed over."""
    found = [(folder, manifest) for folder, manifest in newest_first(checkpoints) if manifest is not None]
    return found[0] if found else None


def newest_first(checkpoints: Path) -> list[tuple[Path, Manifest | None]]:
    """Checkpoints down to the newest whole one; torn ones above it have no manifest."""
    seen: list[tuple[Path, Manifest | None]] = []
    for folder in sorted(checkpoints.glob("step-*"), reverse=True):
        seen.append((folder, whole(folder)))
        if seen[-1][1] is not None:
            break
    return seen
