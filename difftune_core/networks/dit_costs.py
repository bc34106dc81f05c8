"""What a pass of a DiT costs, by its anatomy alone."""

from __future__ import annotations

from difftune_core.networks.dit import DiTConfig


def pass_operations(config: DiTConfig) -> int:
    """Floating-point operations of a pass of one image, a multiplication and an addition counted as two.

    Of a DiT-XL/2 of 256 pixels 237 billion; embedders and modulation, which are not counted, are a fifth of a percent.
    """
    tokens, width = (config.input_size // config.patch_size) ** 2, config.hidden_size
    linear = tokens * width**2 * (4 + 2 * config.mlp_ratio)
    attention = 2 * tokens**2 * width
    return int(2 * config.depth * (linear + attention))


def activation_bytes(config: DiTConfig) -> int:
    """Bytes that a pass of one image holds at its widest: queries, keys, values, the MLP's inner layer, and more."""
    tokens = (config.input_size // config.patch_size) ** 2
    return int(tokens * config.hidden_size * (8 + 2 * config.mlp_ratio) * 4)
