"""S1 and S2: drawing by the ancestral sampler with guidance, beside the released script, latents alone.

Fewer steps than the published 250 are taken, of the same kind: what a step takes does not depend on their number.
"""

from __future__ import annotations

import torch

from benchmarks.gpu.bench import Bench, operations
from benchmarks.harness.claims import Claim, Guard, faster
from benchmarks.references.flags import as_ours, as_public_trainers
from benchmarks.references.random import random_dit
from benchmarks.references.sampling import CHANNELS, SCALE, PlainSampler
from difftune_core.diffusion.reverse import Sampling, guide
from difftune_core.families.dit.draw import sample_latents
from difftune_core.networks.dit import DiT
from difftune_core.runtime.precision import Precision, precision_on

_MOST_DIFFERENCE = 0.02


def sampling(bench: Bench) -> list[Claim]:
    """Time both, and count what ours reaches of the device's products."""
    sizes = bench.sizes
    model = random_dit(sizes.dit, bench.device).eval().requires_grad_(False)  # noqa: FBT003  # no name in the library
    precision = precision_on(bench.device, "auto")
    how = Sampling(sampler="ddpm", num_inference_steps=sizes.steps, guidance_scale=SCALE, guided_channels=CHANNELS)
    labels = torch.arange(sizes.drawn) % sizes.dit.num_classes
    plain, on_device = PlainSampler(model, sizes.steps), labels.to(bench.device)

    def theirs() -> None:
        as_public_trainers(tf32=True)
        plain.draw(on_device)

    def ours() -> None:
        as_ours()
        with precision.autocast():
            sample_latents(model, labels, how)

    guard = guarded(model, precision)
    sides = bench.side("released sampler", theirs, sizes.drawn), bench.side("difftune", ours, sizes.drawn)
    compared = bench.alternate(*sides, within_s=60.0, warm_ups=1)
    forward, _ = operations(sizes.dit)
    probed, own = bench.product_flops(), compared.seconds["difftune"]
    told = {"images": sizes.drawn, "steps": sizes.steps, "precision": precision.name}
    means = "operations a second of passes, as a share of those of a product of matrices in the same run"
    share = 2 * forward * sizes.steps / own / probed
    return [
        faster("S1", compared, bar=bench.bar(at_least=2.5), guard=guard, details=told),
        Claim("S2", share, means, bar=bench.bar(at_least=0.5), guard=guard, details={**told, "probed_flops": probed}),
    ]


@torch.no_grad()
def guarded(model: DiT, precision: Precision) -> Guard:
    """Compare one guided pass of both from equal noise; the released one in float32."""
    config, device = model.config, model.pos_embed.device
    x = torch.randn(2, config.in_channels, config.input_size, config.input_size, device=device)
    labels, t = torch.zeros(2, dtype=torch.long, device=device), torch.full((2,), 500.0, device=device)
    nulls, both, times = torch.full_like(labels, model.null_label), torch.cat([x, x]), torch.cat([t, t])
    as_public_trainers(tf32=False)
    wanted = PlainSampler(model, 1).guided(both, times, torch.cat([labels, nulls])).chunk(2)[0]
    as_ours()
    with precision.autocast():
        null, of_class = model.at_one_time(both, t[:1], torch.stack([nulls[0], labels[0]]), _halves(device)).chunk(2)
    found = guide(of_class, null, Sampling(guidance_scale=SCALE, guided_channels=CHANNELS), config.in_channels)
    difference = float((found - wanted).norm() / wanted.norm())
    how = f"a guided pass from equal noise differs from float32 by at most {_MOST_DIFFERENCE:.0%} of its norm"
    return Guard(how, difference <= _MOST_DIFFERENCE, {"difference": difference})


def _halves(device: torch.device) -> torch.Tensor:
    """Rows of two labels, for two images under the one and two under the other."""
    return torch.tensor([0, 0, 1, 1], device=device)
