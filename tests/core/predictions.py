"""One denoiser in the terms of another prediction."""

from __future__ import annotations

from torch import Tensor

from difftune_core.diffusion.prediction import Output, implied_x0, output_for


def converted(output: Tensor, x_t: Tensor, signal: Tensor, scale: Tensor, *, given: Output, wanted: Output) -> Tensor:
    """The same wrong or right guess, told as `wanted`; for x_t = signal * x0 + scale * noise."""
    x0 = implied_x0(given, output, x_t, signal, scale)
    return output_for(wanted, x0, (x_t - signal * x0) / scale, signal, scale)
