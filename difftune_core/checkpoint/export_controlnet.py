"""A trained ControlNet for others: a diffusers folder."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from difftune_core.checkpoint.export import CARD, zip_folder

ARCHIVE = "diffusers.zip"


def export_controlnet(model: Any, out: Path, *, card: dict[str, Any]) -> Path:
    """Write `diffusers.zip`, a folder that `ControlNetModel.from_pretrained` opens, with `card` as `difftune.json`.

    Args:
        model: a plain ControlNetModel; adapters are merged before.
        out: an existing folder.
        card: base model, condition, method, step, licence.
    """
    archive = out / ARCHIVE
    with tempfile.TemporaryDirectory(dir=out) as folder:
        model.save_pretrained(folder, safe_serialization=True)
        (Path(folder) / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        zip_folder(Path(folder), archive)
    return archive
