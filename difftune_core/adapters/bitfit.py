"""BitFit (Zaken et al. 2022): biases alone are trained."""

from __future__ import annotations

from difftune_core.networks.dit import DiT


def unfreeze_biases(model: DiT) -> None:
    """Train every bias of a frozen model."""
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            parameter.requires_grad = True
