"""Networks of transformers as judges: every weight from the file, none made up by the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from difftune_core.hooks import TaskError

_FAULTS = ("missing_keys", "unexpected_keys", "mismatched_keys")


def load_pretrained(family: str, folder: Path) -> Any:
    """The network of class `family` in `folder`: float32, evaluation mode, frozen.

    Raises:
        TaskError: `model_mismatch` where names or shapes do not fit `config.json`, `not_finite` for NaN or infinity.
        OSError: a file is missing or cannot be read.
        ValueError: `config.json` is of another network.
    """
    import transformers

    library: Any = transformers
    library.utils.logging.disable_progress_bar()
    kind, config = getattr(library, family), library.PreTrainedConfig.get_config_dict(folder, local_files_only=True)[0]
    if config.get("model_type") != kind.config_class.model_type:
        raise ValueError(f"config.json is of {config.get('model_type')!r}, not {kind.config_class.model_type!r}")
    options = {"local_files_only": True, "use_safetensors": True, "dtype": torch.float32}
    net, found = kind.from_pretrained(folder, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    faults = {name: sorted(map(str, found[name])) for name in _FAULTS}
    if any(faults.values()):
        missing, extra, shaped = faults.values()
        raise TaskError("model_mismatch", f"weights: missing {missing}, unexpected {extra}, other shape {shaped}")
    broken = sorted(name for name, tensor in net.state_dict().items() if not tensor.isfinite().all())
    if broken:
        raise TaskError("not_finite", f"weights hold NaN or infinity: {broken}")
    return net.eval().requires_grad_(requires_grad=False)
