"""`python -m difftune_core.families.drawer REQUEST RANK` draws the chunks of one process (`drawers.py`)."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from difftune_core.config.retention import JudgedImagesConfig, RetentionSetConfig
from difftune_core.families.table import find_base_model
from difftune_core.retention.sample import Share, draw_chunks
from difftune_core.runtime.blocks import keep_compiled_in
from difftune_core.runtime.compiled import place_of_compiled
from difftune_core.runtime.precision import Precision

_KINDS = {kind.__name__: kind for kind in (RetentionSetConfig, JudgedImagesConfig)}


def main() -> None:
    """Draw this process's chunks."""
    request, rank = json.loads(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(request["num_threads"])
    device = torch.device("cpu")
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        torch.cuda.set_device(rank)
        device = torch.device("cuda", rank)
    if request["compiled"]:
        keep_compiled_in(place_of_compiled(Path(request["cache"])))
    base = find_base_model(request["model"], [Path(root) for root in request["models"]])
    config = _KINDS[request["kind"]].model_validate_json(request["config"])
    chunks = Path(request["chunks"])
    with Precision(request["precision"], device).autocast():
        share = Share(rank, request["world"], lambda: False)
        draw_chunks(replace(base, compiled=request["compiled"]), config, chunks, device=device, share=share)


if __name__ == "__main__":
    main()
