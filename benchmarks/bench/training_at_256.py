"""DiT-S/2 at 256 pixels beside the released trainer's loop: the step, and from it what a whole job takes.

The autoencoder has Stable Diffusion's size, 273 GFLOP an image against 36 for the step of a DiT-S/2; a job of the
recipe's length cannot be run here. What it takes follows from rates that are measured: an image's in a step, and that
of encoding it once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness.blocks import MIN_BLOCKS, Comparison, Side, alternate
from benchmarks.harness.claims import Bar, Claim, Guard, faster
from benchmarks.harness.equality import same_gradient
from benchmarks.references.diffusion import NumpyDiffusion
from benchmarks.references.ours import OurRun, random_data
from benchmarks.references.random import OF_STABLE_DIFFUSION, SCALE, random_autoencoder, random_dit
from benchmarks.references.training import RELEASED, PlainLoop, Source, encoding
from difftune_core.networks.dit import PRESETS

BAR = Bar(at_least=2.0)
_BATCH = 2
_JOB = {"images": 10_000, "steps": 24_000, "batch_size": 32}
_SIDE = 256


def measured(folder: Path) -> list[Claim]:
    """Time steps and encoding, and work out the job."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device("cpu")
    model = random_dit(PRESETS["DiT-S/2"], device)
    encode = encoding(random_autoencoder(OF_STABLE_DIFFUSION, device), SCALE)
    plain = PlainLoop(model, RELEASED, Source(_random_images(), encode), batch_size=_BATCH)
    run = OurRun.of(model, random_data(model.config, device, 64), batch_size=_BATCH, cache=folder)
    guard = guarded(run)
    compared = alternate(
        Side("released trainer", plain.step, _BATCH),
        Side("difftune", run.step, _BATCH),
        blocks=MIN_BLOCKS,
        block_s=5.0,
        clock=time.process_time,
    )
    begin = time.process_time()
    with torch.no_grad():
        encode(next(_random_images())[0])
    encoding_s = (time.process_time() - begin) / _BATCH
    told = {"batch_size": _BATCH, "clock": "cpu"}
    return [
        faster("training at 256: step", compared, guard=guard, details=told),
        _job(compared, guard, encoding_s),
    ]


def _job(compared: Comparison, guard: Guard, encoding_s: float) -> Claim:
    """Work out a job of the recipe's length: each image encoded once, mirrored too."""
    steps = _JOB["steps"] * _JOB["batch_size"]
    theirs, ours = compared.seconds.values()
    prepared = 2 * _JOB["images"] * encoding_s
    return Claim(
        "training at 256",
        steps * theirs / (steps * ours + prepared),
        "times as fast: a job by the released trainer by difftune, worked out from rates that are measured",
        bar=BAR,
        guard=guard,
        details={**_JOB, "seconds_to_encode_an_image": round(encoding_s, 3), "clock": "cpu"},
    )


def guarded(run: OurRun) -> Guard:
    """Compare a step's gradient by the released loss with ours."""
    batch, model, tables = run.batch(), run.state.model, NumpyDiffusion()
    noised, labels = batch.noised, batch.condition
    assert isinstance(labels, Tensor), "of classes"
    return same_gradient(
        model,
        lambda: tables.losses(model, noised.x0, noised.t, labels, noised.noise).mean(),
        run.loss(batch),
    )


def _random_images() -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield torch.rand(_BATCH, 3, _SIDE, _SIDE) * 2 - 1, torch.randint(1000, (_BATCH,))
