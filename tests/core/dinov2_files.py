"""A small DINOv2 with random weights, as hubs hold it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model

State = dict[str, torch.Tensor]


def published_names(state: State) -> State:
    """transformers' names of today to those of the published files."""
    renamed = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value"}
    renamed["o_proj"] = "output.dense"
    for new, old in renamed.items():
        state = {name.replace(f"attention.{new}", f"attention.{old}"): tensor for name, tensor in state.items()}
    return state


def write_dinov2(made: Path) -> Path:
    """With positions for 37 x 37 patches."""
    torch.manual_seed(0)
    fields = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 518, "patch_size": 14}
    net = Dinov2Model(Dinov2Config(**fields))
    state = net.state_dict()
    for name, tensor in state.items():
        tensor.normal_(1.0 if "layer_scale" in name or name.endswith("norm.weight") else 0.0, 0.2)
    (made / "config.json").write_text(json.dumps({"model_type": "dinov2", **fields}))
    save_file(published_names(state), made / "model.safetensors")
    (made / "card.json").write_text(json.dumps({"kind": "dinov2", "id": "dinov2"}))
    return made
