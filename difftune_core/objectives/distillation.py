"""Retention by knowledge distillation instead of a retention set (Diff-Tuning, App. C).

The tuned model is held to the frozen base model's prediction on noised target images. Both are asked under their own
null label: the base model has no row for the target's classes, and retention acts on the null branch. The prediction
alone is held, not a learned variance. Shapes: k slots of the distillation, c latent channels, h w their size.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from difftune_core.models.dit import DiT


def distillation_loss(
    output: Float[Tensor, "k out h w"],
    teacher: DiT,
    inputs: tuple[Float[Tensor, "k c h w"], Float[Tensor, " k"]],
    weight: Float[Tensor, " k"] | None,
) -> Float[Tensor, " k"]:
    """||f_theta0(x_t) - f_theta(x_t)||^2 of each slot, as a mean over its elements.

    Args:
        output: of the tuned model, under its null label.
        teacher: the base model.
        inputs: what the tuned model was given: latents and times.
        weight: of the squared error at each slot's time; None for 1.
    """
    channels = teacher.config.in_channels
    with torch.no_grad():
        null = torch.full((len(output),), teacher.null_label, device=output.device)
        taught: Tensor = teacher(*inputs, null)
    error = (output[:, :channels] - taught[:, :channels]).square().flatten(1).mean(1)
    return error if weight is None else error * weight
