"""What the device allows: the rates of products and copies, and the images a second that a step cannot pass by them."""

from __future__ import annotations

import torch

from benchmarks.gpu.bench import Bench, operations
from benchmarks.harness.claims import Claim
from difftune_core.networks.dit import DiT

_POINTWISE_BYTES = 1.0e9
"""Read and written by what is no product, an image of DiT-XL/2 with compiled blocks: an estimate."""
_BYTES_A_PARAMETER = 46
"""Read and written in a step by optimizer, average and the cast of weights."""
_SHARE_OF_PRODUCTS = 0.9
"""Share of the probed rate that the network's own products reach: an estimate."""


def roofline(bench: Bench) -> list[Claim]:
    """Probe the device, and say what follows for a step at both batches."""
    flops, copied = bench.product_flops(), bench.copied_bytes()
    _, both = operations(bench.sizes.dit)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in DiT(bench.sizes.dit).parameters())
    told = {"copied_bytes_a_second": copied, "operations_an_image": both, "parameters": parameters}
    claims = [Claim("roofline: products", flops, "operations a second, probed", details=told)]
    for batch in sorted({bench.sizes.batch, bench.sizes.large}):
        image_s = both / (_SHARE_OF_PRODUCTS * flops) + _POINTWISE_BYTES / copied
        step_s = batch * image_s + _BYTES_A_PARAMETER * parameters / copied
        claims.append(Claim(f"roofline: batch {batch}", batch / step_s, "images a second, worked out from the probes"))
    return claims
