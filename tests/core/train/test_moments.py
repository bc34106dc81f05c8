"""Moments that a run kept in 8 bits, read by a run that keeps them in float32."""

from __future__ import annotations

import torch
from torch import nn

from difftune_core.checkpoint.optimizer import load_moments, new_optimizer
from difftune_core.config.methods.hyperparameters import TrainingHyperparameters


def test_moments_in_8_bits_are_read_as_what_they_stand_for() -> None:
    parameter = nn.Parameter(torch.zeros(2, 4))
    optimizer = new_optimizer([parameter], TrainingHyperparameters())
    codes = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 255]], dtype=torch.uint8)
    levels = torch.arange(256) / 255
    scale = torch.tensor([0.5, 1.0, 2.0, 4.0])  # of blocks of two codes each
    kept = {
        f"{kind}{part}/weight": tensor
        for kind in ("exp_avg", "exp_avg_sq")
        for part, tensor in (("", codes), (".scale", scale), (".qmap", levels))
    }
    load_moments(optimizer, {"weight": parameter}, kept, updates=7.0)
    expected = torch.tensor([[0, 0.5, 2, 3], [6, 4, 4, 1020]]) / 255
    state = optimizer.state[parameter]
    torch.testing.assert_close(state["exp_avg"], expected)
    torch.testing.assert_close(state["exp_avg_sq"], expected)
    assert state["step"] == 7
