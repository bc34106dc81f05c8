"""What a denoiser's output means: the noise, the clean image, or a velocity.

With x_t = a x_0 + s eps, a the scale of the signal and s of the noise, any of them and x_t give x_0:

| prediction | output | x_0 |
| --- | --- | --- |
| epsilon (Ho et al. 2020) | eps | (x_t - s eps) / a |
| x0 | x_0 | x_0 |
| v (Salimans and Ho 2022, app. D) | a eps - s x_0, where a^2 + s^2 = 1 | a x_t - s v |
| velocity (Ma et al. 2024, SiT) | eps - x_0, where a + s = 1 | x_t - s u |

Shapes: b images, `...` their latent shape; a and s hold one value an image and multiply it.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

Output = Literal["epsilon", "x0", "v", "velocity"]


def output_for(
    prediction: Output, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], signal: Tensor, scale: Tensor
) -> Float[Tensor, "b ..."]:
    """Return what a perfect model puts out for x_t = signal * x0 + scale * noise."""
    if prediction == "epsilon":
        return noise
    if prediction == "x0":
        return x0
    return signal * noise - scale * x0 if prediction == "v" else noise - x0


def implied_x0(
    prediction: Output, output: Float[Tensor, "b ..."], x_t: Float[Tensor, "b ..."], signal: Tensor, scale: Tensor
) -> Float[Tensor, "b ..."]:
    """The clean image that an output implies."""
    if prediction == "epsilon":
        return (x_t - scale * output) / signal
    if prediction == "x0":
        return output
    return signal * x_t - scale * output if prediction == "v" else x_t - scale * output
