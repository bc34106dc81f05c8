"""A trained ControlNet for others: a diffusers folder, and the single file that ComfyUI and A1111 read."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from difftune_core.families.controlnet.convert.controlnet_single import unlike_published, write_single_file
from difftune_core.families.convert.weights import DIFFUSERS_WEIGHTS
from difftune_core.families.export import CARD, README, licence_of, stated_config, zip_folder
from difftune_core.networks.state import CONFIG
from difftune_core.runtime.tensors import save_tensors

ARCHIVE = "diffusers.zip"
SINGLE_FILE = "controlnet.safetensors"


def export_controlnet(model: Any, out: Path, *, card: dict[str, Any]) -> tuple[Path, Path]:
    """Write `diffusers.zip`, a folder that `ControlNetModel.from_pretrained` opens, and `controlnet.safetensors`.

    In the folder `difftune.json` holds `card` and, as `unlike_stable_diffusion`, in which fields of its config the
    ControlNet is of neither published size: ComfyUI and A1111 then do not know it.

    Args:
        model: a plain ControlNetModel; adapters are merged before.
        out: an existing folder.
        card: base model, condition, method, step, licence.

    Raises:
        TaskError: `model_mismatch`, the original's names cannot hold this ControlNet; `not_finite`.
    """
    archive, single = out / ARCHIVE, out / SINGLE_FILE
    config = stated_config(model)
    told = {**card, "unlike_stable_diffusion": unlike_published(config)}
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    write_single_file(state, config, single, told)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        folder = Path(scratch)
        save_tensors(state, folder / DIFFUSERS_WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (folder / CARD).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        (folder / README).write_text(_readme(told), encoding="utf-8")
        zip_folder(folder, archive)
    return archive, single


def _readme(card: dict[str, Any]) -> str:
    """Return what whoever finds the folder somewhere else must know."""
    method = card.get("method")
    facts = {
        "base model": card.get("base_model"),
        "condition": card.get("condition"),
        "method": method.get("type") if isinstance(method, dict) else method,
        "step": card.get("step"),
        "licence of the base model": licence_of(card),
    }
    lines = [f"- {name}: {value}" for name, value in facts.items() if value is not None]
    return _README.format(facts="\n".join(lines), card=CARD)


_README = """# ControlNet

Trained with difftune. A ControlNet begins as a copy of a part of its base model: that one's licence covers it too.

{facts}

```python
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

controlnet = ControlNetModel.from_pretrained("THIS_FOLDER")
pipeline = StableDiffusionControlNetPipeline.from_pretrained("BASE_MODEL_FOLDER", controlnet=controlnet)
pipeline.to(torch.float32)  # parts of a base model may be stored in different precisions
image = pipeline("a caption", image=control_image).images[0]
```

The control image is RGB and as large as the image to be drawn. `{card}` has the whole story.
"""
