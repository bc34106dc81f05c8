"""SiT checkpoints (Ma et al. 2024): DiT's names and anatomy, another count of time, the opposite velocity.

SiT is told u = 1 - t, with the data at u = 1, and puts out x_0 - eps; we are told t and put out eps - x_0. Both are
linear in the weights, so that the same function comes out, up to rounding:

    cos(u f) = cos f cos(t f) + sin f sin(t f)
    sin(u f) = sin f cos(t f) - cos f sin(t f)

turn the first layer of the timestep embedder, for each frequency f, and the last layer changes its sign.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from difftune_core.families.dit.convert.fitted import Converted
from difftune_core.networks.dit import timestep_embedding

_FIRST = "t_embedder.mlp.0.weight"
_LAST = ("final_layer.linear.weight", "final_layer.linear.bias")
_NOTE = "read as SiT: time runs the other way here: the timestep embedder's first layer and the output's sign change"


def from_sit(read: Converted) -> Converted:
    """Bring a SiT's weights to the same function in our terms.

    Applied twice it gives the weights back, up to rounding.
    """
    state = dict(read.state)
    state[_FIRST] = _turned(state[_FIRST])
    state |= {name: -state[name] for name in _LAST}
    return Converted(state, replace(read.config, process="flow"), (*read.notes, _NOTE))


def _turned(weight: Float[Tensor, "d f"]) -> Float[Tensor, "d f"]:
    """Weights for the embedding of t from those for the embedding of 1 - t: cosines come first, then sines."""
    at_one = timestep_embedding(torch.ones(1), weight.shape[1])[0].double()
    cosine, sine = at_one.chunk(2)
    of_cosines, of_sines = weight.double().chunk(2, dim=1)
    turned = torch.cat([of_cosines * cosine + of_sines * sine, of_cosines * sine - of_sines * cosine], dim=1)
    return turned.to(weight.dtype)
