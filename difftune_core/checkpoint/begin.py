"""The checkpoint of another run that a run begins with: its average counts, optimizer and curves begin anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from difftune_core.checkpoint.manifest import MODEL, Manifest, stated
from difftune_core.config.origin import ORIGIN_FILE, Ancestor, Origin
from difftune_core.files import sha256_file
from difftune_core.hooks import TaskError
from difftune_core.networks.state import CONFIG

_FIELD = "model"


@dataclass(frozen=True)
class Beginning:
    """An opened checkpoint, checked against its manifest."""

    folder: Path
    digest: str
    """sha256 of the weights."""
    origin: Origin

    @property
    def named(self) -> str:
        """Name of the checkpoint in messages."""
        first = self.origin.lineage[0]
        return f"{first.checkpoint} (step {first.step}{f' of {first.job}' if first.job else ''})"


def delivered_weights(folder: Path, name: str, param: str) -> tuple[Manifest, str]:
    """Check the delivered weights of a checkpoint, of which the files that only a resume needs may be missing.

    Args:
        folder: of the checkpoint.
        name: as the caller calls it.
        param: the field that names it.

    Returns:
        Its manifest, and the sha256 of the weights.

    Raises:
        TaskError: `invalid_checkpoint`, naming `param`.
    """
    manifest = stated(folder)
    if manifest is None:
        message = f"{name}: {folder.name} holds no manifest.json of a checkpoint"
        raise TaskError("invalid_checkpoint", message, param)
    digests = {file.path: file.sha256 for file in manifest.files}
    for part in (MODEL, CONFIG):
        path = folder / part
        if not path.is_file() or sha256_file(path) != digests.get(part):
            raise TaskError("invalid_checkpoint", f"{name}: {part} is not the one in its manifest", param)
    return manifest, digests[MODEL]


def open_beginning(folder: Path, base_digest: str) -> Beginning:
    """Open the checkpoint that a run begins with.

    Args:
        folder: its weights, config and manifest; `origin.json` says more where a service gave it.
        base_digest: of the base model's card, which the checkpoint must have been tuned from.

    Raises:
        TaskError: `invalid_checkpoint`; `model_mismatch`, it was tuned from another base model.
    """
    manifest, digest = delivered_weights(folder, "the checkpoint to begin with", _FIELD)
    theirs = manifest.identity.get("base_model")
    if theirs != base_digest:
        message = f"the checkpoint was tuned from another base model: {theirs}, not {base_digest}"
        raise TaskError("model_mismatch", message, _FIELD)
    by_hand = Origin(lineage=(Ancestor(checkpoint=folder.resolve().name, step=manifest.step),))
    return Beginning(folder, digest, _told(folder) or by_hand)


def _told(folder: Path) -> Origin | None:
    try:
        return Origin.model_validate_json((folder / ORIGIN_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        message = f"{ORIGIN_FILE}: {error.errors()[0]['msg']}"
        raise TaskError("invalid_checkpoint", message, _FIELD) from None
