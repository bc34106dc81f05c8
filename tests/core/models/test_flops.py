"""Operations of DiT-XL/2 at 256 px by torch's counter (matrix products and convolutions, two per multiply-add)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from difftune_core.families.dit.export import _transformer_config
from difftune_core.networks.dit import PRESETS, DiT, TimestepEmbedder
from difftune_core.networks.dit_costs import pass_operations

XL = PRESETS["DiT-XL/2"]


def flops(run: Callable[[], Tensor]) -> tuple[int, int]:
    """Forward, and forward with backward."""
    with FlopCounterMode(display=False) as forward:
        out = run()
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    return forward.get_total_flops(), forward.get_total_flops() + backward.get_total_flops()


def of_embedder() -> tuple[int, int]:
    with torch.device("meta"):
        embedder, t = TimestepEmbedder(XL), torch.empty(1)
    return flops(lambda: embedder(t))


def test_xl_2_costs_the_published_operations_less_the_timestep_embedders_that_it_shares() -> None:
    with torch.device("meta"):
        model, x, t = DiT(XL), torch.empty(1, 4, 32, 32), torch.empty(1)
        y = torch.empty(1, dtype=torch.long)
    forward, both = flops(lambda: model(x, t, y))
    assert (forward, both) == (237_242_843_136, 711_718_502_400)
    assert 0.99 * forward < pass_operations(XL) < forward
    # The known 237.3 and 712.0 GFLOP are diffusers' module: it embeds the timestep in each of its 28 blocks and once
    # more at the end, we embed it once. The rest is the same.
    extra_forward, extra_both = (28 * count for count in of_embedder())
    assert round((forward + extra_forward) / 1e9, 1) == 237.3
    assert round((both + extra_both) / 1e9, 1) == 712.0


def test_diffusers_module_differs_by_one_timestep_embedder_a_block() -> None:
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    config = replace(XL, depth=3)
    with torch.device("meta"):
        ours: nn.Module = DiT(config)
        theirs: nn.Module = DiTTransformer2DModel(**_transformer_config(config)).eval()
        x, t, y = torch.empty(1, 4, 32, 32), torch.empty(1), torch.empty(1, dtype=torch.long)
    own = flops(lambda: ours(x, t, y))
    other = flops(lambda: theirs(x, timestep=t.long(), class_labels=y).sample)
    assert [b - a for a, b in zip(own, other, strict=True)] == [3 * count for count in of_embedder()]
