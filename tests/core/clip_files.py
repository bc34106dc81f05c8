"""A small CLIP model with random weights and the scenes' vocabulary, as transformers writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from workbench.tiny.tokenizer import write_tokenizer

SIZE, LENGTH = 32, 16


def write_clip(folder: Path, *, seed: int = 3) -> Path:
    """Large enough weights that scores of different pairs differ, and some are below 0."""
    import transformers

    library: Any = transformers
    tokenizer = write_tokenizer(folder, LENGTH)
    torch.manual_seed(seed)
    common = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("bos", "eos", "pad")}
    text = {**common, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": LENGTH}
    vision = {**common, "image_size": SIZE, "patch_size": 8}
    model = library.CLIPModel(library.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    for name, parameter in model.named_parameters():
        if "norm" not in name and "logit_scale" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    sizes = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    library.CLIPImageProcessorPil(**sizes).save_pretrained(folder)
    return folder
