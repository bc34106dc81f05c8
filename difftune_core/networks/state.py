"""What every folder of weights has: the names of its files, and the check that the weights are a network's."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from difftune_core.hooks import TaskError

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def check_state(state: dict[str, torch.Tensor], model: torch.nn.Module) -> None:
    """Refuse weights that do not fit `model` exactly, or are not finite.

    Raises:
        TaskError: `model_mismatch` with the names at fault; `not_finite`.
    """
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shaped = sorted(k for k in wanted.keys() & state.keys() if wanted[k] != state[k].shape)
    if missing or extra or shaped:
        raise TaskError("model_mismatch", f"weights: missing {missing}, unexpected {extra}, other shape {shaped}")
    broken = sorted(name for name, tensor in state.items() if not tensor.isfinite().all())
    if broken:
        raise TaskError("not_finite", f"weights hold NaN or infinity: {broken}", broken[0])


def pixels_per_latent(block_out_channels: Sequence[int]) -> int:
    """Pixels of a side for one latent: each of an autoencoder's blocks but the last halves it."""
    return int(2 ** (len(block_out_channels) - 1))
