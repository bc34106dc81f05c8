"""The network against its equations, written out in numpy and float64 from the original's names of weights."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from difftune_core.networks.dit import DiT

Array = np.ndarray


class Equations:
    """DiT (Peebles and Xie 2023), fig. 3: patches, adaLN-Zero blocks, a linear decoder; for one image."""

    def __init__(self, model: DiT) -> None:
        self.weights = {name: tensor.detach().double().numpy() for name, tensor in model.state_dict().items()}
        self.config = model.config

    def linear(self, x: Array, name: str) -> Array:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def condition(self, t: float, label: int) -> Array:
        """Frequencies exp(-ln(10000) i / half), cosines before sines; an MLP; plus the label's row."""
        half = 128
        angles = t * np.exp(-math.log(10000) * np.arange(half) / half)
        embedded = np.concatenate([np.cos(angles), np.sin(angles)])
        hidden = silu(self.linear(embedded, "t_embedder.mlp.0"))
        return self.linear(hidden, "t_embedder.mlp.2") + self.weights["y_embedder.embedding_table.weight"][label]

    def attention(self, x: Array, name: str) -> Array:
        heads, width = self.config.num_heads, x.shape[1] // self.config.num_heads
        q, k, v = self.linear(x, f"{name}.qkv").reshape(len(x), 3, heads, width).transpose(1, 2, 0, 3)
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(width)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True)) @ v
        return self.linear(mixed.transpose(1, 0, 2).reshape(len(x), -1), f"{name}.proj")

    def block(self, x: Array, c: Array, name: str) -> Array:
        modulation = np.split(self.linear(silu(c), f"{name}.adaLN_modulation.1"), 6)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation
        x = x + gate * self.attention(normed(x) * (1 + scale) + shift, f"{name}.attn")
        hidden = gelu(self.linear(normed(x) * (1 + mlp_scale) + mlp_shift, f"{name}.mlp.fc1"))
        return x + mlp_gate * self.linear(hidden, f"{name}.mlp.fc2")

    def __call__(self, image: Array, t: float, label: int) -> Array:
        side, p, channels = self.config.input_size // self.config.patch_size, self.config.patch_size, image.shape[0]
        patches = image.reshape(channels, side, p, side, p).transpose(1, 3, 0, 2, 4).reshape(side * side, -1)
        kernel = self.weights["x_embedder.proj.weight"]
        x = patches @ kernel.reshape(len(kernel), -1).T + self.weights["x_embedder.proj.bias"]
        x = x + positions(len(kernel), side)
        c = self.condition(t, label)
        for number in range(self.config.depth):
            x = self.block(x, c, f"blocks.{number}")
        shift, scale = np.split(self.linear(silu(c), "final_layer.adaLN_modulation.1"), 2)
        out = self.linear(normed(x) * (1 + scale) + shift, "final_layer.linear")
        return out.reshape(side, side, p, p, -1).transpose(4, 0, 2, 1, 3).reshape(-1, side * p, side * p)


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def normed(x: Array) -> Array:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def positions(width: int, side: int) -> Array:
    """MAE's: the first half of the channels for the column, the second for the row, each sines before cosines."""
    frequencies = 1 / 10000 ** (np.arange(width // 4) / (width / 4))

    def line(place: int) -> Array:
        return np.concatenate([np.sin(place * frequencies), np.cos(place * frequencies)])

    return np.stack([np.concatenate([line(column), line(row)]) for row in range(side) for column in range(side)])


@pytest.mark.parametrize(("t", "label"), [(0.0, 0), (17.0, 2), (999.0, 3)])
def test_the_network_follows_the_original_equations(toy_model: DiT, t: float, label: int) -> None:
    model = DiT(replace(toy_model.config, timestep_frequencies="original"))
    model.load_state_dict(toy_model.state_dict())
    image = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = model(image[None], torch.tensor([t]), torch.tensor([label]))[0]
    expected = Equations(model)(image.double().numpy(), t, label)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=1e-5)
    assert np.abs(expected).max() > 0.1
