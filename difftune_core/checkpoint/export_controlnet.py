"""temp"""

from pathlib import Path
from typing import Any

from difftune_core.checkpoint.export import zip_folder


def export_controlnet(model: Any, out: Path, *, card: dict[str, Any]) -> tuple[Path, Path]:
    import tempfile

    with tempfile.TemporaryDirectory() as d:
        model.save_pretrained(d)
        zip_folder(Path(d), out / "diffusers.zip")
        (out / "controlnet.safetensors").write_bytes(b"x")
    return out / "diffusers.zip", out / "controlnet.safetensors"
