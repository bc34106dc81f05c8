"""Whether the original DiT code computes the same function of a checkpoint's weights as we do. Free of torch.

The names in a checkpoint are the original's, so it loads there whatever it is; what of its `config.json` the original
code cannot know is looked at here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MADE_LIKE = (
    "input_size",
    "patch_size",
    "in_channels",
    "hidden_size",
    "depth",
    "num_heads",
    "mlp_ratio",
    "num_classes",
)
_NULL_LABEL = 1000  # in the original's scripts


def unlike_original(config: Mapping[str, Any]) -> str | None:
    """Return why the original code would draw other images with these weights, in a sentence; None where it would not.

    Args:
        config: a checkpoint's `config.json`; what it does not say is as in the original.
    """
    if config and "hidden_size" not in config:
        return "It is no DiT."
    adapter = config.get("adapter")
    if adapter is not None:
        return f"Its adapter, {adapter['type']}, is no change of weights: the original code has no place for it."
    process, prediction = config.get("process", "ddpm"), config.get("prediction", "epsilon")
    if process != "ddpm":
        return f"It is a model of the process {process!r}, and the original code samples DDPM."
    if prediction != "epsilon":
        return f"Its output is {prediction!r}, and the original code takes it for the noise."
    if config.get("timestep_frequencies", "original") != "original":
        return (
            "Its timestep embedding has diffusers' frequencies, exponent i / (half - 1); the original code computes "
            "i / half, and there is no setting for it. Take format=diffusers."
        )
    return None


def how_to_load(config: Mapping[str, Any]) -> str:
    """Return how the original code is told what the weights do not tell."""
    variance = bool(config.get("learn_sigma", True))
    stated = ", ".join(f"{name}={config[name]}" for name in _MADE_LIKE if name in config)
    text = f"Load strictly into DiT({stated}, learn_sigma={variance})."
    if (null := config.get("num_classes", _NULL_LABEL)) != _NULL_LABEL:
        text += f" The null label is {null}, where the original's scripts have {_NULL_LABEL}."
    if not variance:
        text += " Sample with create_diffusion(..., learn_sigma=False)."
    return f"{text} Latents are of the base model's own autoencoder."
