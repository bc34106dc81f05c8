"""What a denoiser's output means: the noise, the clean image, or a velocity; conversions among them.

With x_t = a x_0 + s eps, a the scale of the signal and s of the noise, any of them and x_t give the others:

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
    """What a perfect model puts out for x_t = signal * x0 + scale * noise."""
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


def implied_noise(
    prediction: Output, output: Float[Tensor, "b ..."], x_t: Float[Tensor, "b ..."], signal: Tensor, scale: Tensor
) -> Float[Tensor, "b ..."]:
    """The noise that an output implies."""
    if prediction == "epsilon":
        return output
    if prediction == "x0":
        return (x_t - signal * output) / scale
    return scale * x_t + signal * output if prediction == "v" else x_t + signal * output


def converted(
    output: Float[Tensor, "b ..."],
    x_t: Float[Tensor, "b ..."],
    signal: Tensor,
    scale: Tensor,
    *,
    given: Output,
    wanted: Output,
) -> Float[Tensor, "b ..."]:
    """The same prediction in other terms. Loses digits where it divides: epsilon near pure noise, x0 near the data."""
    if given == wanted:
        return output
    x0 = implied_x0(given, output, x_t, signal, scale)
    noise = implied_noise(given, output, x_t, signal, scale)
    return output_for(wanted, x0, noise, signal, scale)
