"""T1 to T7 and T9: our step on a DiT beside those of public trainers, and what it is made of."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench, operations
from benchmarks.harness.blocks import Comparison
from benchmarks.harness.claims import Claim, Guard, faster, share
from benchmarks.harness.equality import same_gradient
from benchmarks.references.diffusion import NumpyDiffusion
from benchmarks.references.flags import as_ours, as_public_trainers
from benchmarks.references.ours import OurRun, random_data
from benchmarks.references.random import SCALE, random_autoencoder, random_dit
from benchmarks.references.training import FAST, RELEASED, Batches, PlainLoop, Source, encoding
from difftune_core.networks.dit import DiT
from difftune_core.train.step import backward, update
from tests.core.plan.peaks import peak_of
from tests.core.synchronisations import Synchronisations


def against_released(bench: Bench) -> list[Claim]:
    """T1 and T3: beside the released trainer, and as a share of the device's products."""
    sizes = bench.sizes
    model = random_dit(sizes.dit, bench.device)
    plain, run = PlainLoop(model, RELEASED, images_of(bench), batch_size=sizes.batch), ours(bench, model, sizes.batch)
    guard = bench.known["guard"] = guarded(run, plain.model)
    before = bench.product_flops()
    sides = bench.side("released trainer", plain.step, sizes.batch), bench.side("difftune", run.step, sizes.batch)
    compared = bench.alternate(*sides, within_s=60.0)
    probed = (before + bench.product_flops()) / 2
    told = {"batch_size": sizes.batch, "method": run.config.method.type, "probed_flops": probed}
    return [
        faster("T1", compared, bar=bench.bar(at_least=4.0), guard=guard, details=told),
        reached("T3", bench, compared, probed, guard, at_least=0.45),
    ]


def against_fast(bench: Bench) -> list[Claim]:
    """T2 and T4: the same beside fast-DiT's loop, at the larger batch."""
    sizes = bench.sizes
    model = random_dit(sizes.dit, bench.device)
    source = Source(features=_on_host(sizes.large, (2, *_latent(bench)), sizes.dit.num_classes))
    half = torch.float16 if bench.on_gpu else torch.bfloat16
    plain = PlainLoop(model, FAST, source, batch_size=sizes.large, half_dtype=half, checkpointing=True)
    run = ours(bench, model, sizes.large)
    guard = guarded(run, plain.model)
    before = bench.product_flops()
    sides = bench.side("fast-DiT", plain.step, sizes.large), bench.side("difftune", run.step, sizes.large)
    compared = bench.alternate(*sides, within_s=60.0)
    probed = (before + bench.product_flops()) / 2
    told = {"batch_size": sizes.large, "probed_flops": probed}
    return [
        faster("T2", compared, bar=bench.bar(at_least=1.8), guard=guard, details=told),
        reached("T4", bench, compared, probed, guard, at_least=0.5),
    ]


def parts_of_a_step(bench: Bench) -> list[Claim]:
    """T5, T6 and T7: a step beside its passes alone, beside one on a fixed batch, and what it waits for."""
    sizes = bench.sizes
    run = ours(bench, random_dit(sizes.dit, bench.device), sizes.batch)
    state, hyperparameters, batch = run.state, run.config.method.hyperparameters, run.batch()

    def passes() -> Tensor:
        as_ours()
        return backward(state, batch, run.config.method, run.data)

    def fixed() -> None:
        update(state, passes(), hyperparameters)

    whole = bench.side("a step", run.step)
    of_passes = bench.alternate(bench.side("passes alone", passes), whole, within_s=20.0)
    of_fixed = bench.alternate(bench.side("on one fixed batch", fixed), whole, within_s=20.0)
    batch = run.batch()
    wanted, found = passes(), run.step().losses
    same = Guard("passes on the step's batch give the step's losses", torch.allclose(found, wanted, rtol=1e-3))
    counts = Guard("a wait made on purpose is counted", synchronisations(bench, lambda: wanted.sum().item()) == 1)
    waits, means = synchronisations(bench, run.step), "waits for the device in a step that is not logged"
    return [
        share("T5", of_passes, bar=bench.bar(at_most=1.3), guard=same),
        share("T6", of_fixed, bar=bench.bar(at_most=1.03), guard=same),
        Claim("T7", waits, means, bar=bench.bar(at_most=0), guard=counts),
    ]


def synchronisations(bench: Bench, work: Callable[[], object]) -> int:
    """Count what `work` waits for: by the driver's own word, on a CPU by the operations that would."""
    if not bench.on_gpu:
        with Synchronisations() as found:
            work()
        return len(found.names)
    bench.settle()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(each.message) for each in told)


def memory(bench: Bench) -> list[Claim]:
    """T9: peak memory beside the released trainer's, the latents' cache apart."""
    sizes = bench.sizes
    data, source = random_data(sizes.dit, bench.device, sizes.images, retained=sizes.images), images_of(bench)

    def theirs() -> None:
        PlainLoop(random_dit(sizes.dit, bench.device), RELEASED, source, batch_size=sizes.batch).step()

    def own() -> None:
        model = random_dit(sizes.dit, bench.device)
        OurRun.of(model, data, batch_size=sizes.batch, cache=bench.folder).step()

    released, found = _peak(bench, theirs), _peak(bench, own)
    guard = bench.known.get("guard")  # of T1: what both do is the same
    told = {"released_bytes": released, "bytes": found, "batch_size": sizes.batch}
    means = "share of the released trainer's peak memory"
    return [Claim("T9", found / released, means, bar=bench.bar(at_most=0.8), guard=guard, details=told)]


def ours(bench: Bench, model: DiT, batch: int) -> OurRun:
    """Prepare our run on `model`, with a retention set."""
    data = random_data(model.config, bench.device, bench.sizes.images, retained=bench.sizes.images)
    return OurRun.of(model, data, batch_size=batch, cache=bench.folder)


def images_of(bench: Bench) -> Source:
    """Give images that are in the host's memory: nothing is decoded, which favours the released trainer."""
    side = bench.sizes.dit.input_size * 8
    encode = encoding(random_autoencoder(bench.sizes.autoencoder, bench.device), SCALE)
    return Source(_on_host(bench.sizes.batch, (3, side, side), bench.sizes.dit.num_classes), encode)


def guarded(run: OurRun, theirs: DiT) -> Guard:
    """Compare the gradient of a batch by the released loss in float32 with ours."""
    as_public_trainers(tf32=False)
    batch, tables = run.batch(), NumpyDiffusion()
    noised, weight, labels = batch.noised, batch.weight, batch.condition
    assert isinstance(labels, Tensor), "of classes"

    def reference() -> Tensor:
        losses = tables.losses(theirs, noised.x0, noised.t, labels, noised.noise)
        return (weight * losses).mean()

    return same_gradient(run.state.model, reference, run.loss(batch), theirs)


def reached(name: str, bench: Bench, compared: Comparison, probed: float, guard: Guard, *, at_least: float) -> Claim:
    """Say which share of the probed operations a second our step has reached."""
    _, both = operations(bench.sizes.dit)
    own = compared.seconds["difftune"]
    told = {"images_a_second": 1 / own, "operations_an_image": both, "probed_flops": probed}
    means = "the model's operations a second, as a share of those of a product of matrices in the same run"
    return Claim(name, both / own / probed, means, bar=bench.bar(at_least=at_least), guard=guard, details=told)


def _peak(bench: Bench, work: Callable[[], None]) -> int:
    if not bench.on_gpu:
        return peak_of(work)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(bench.device)
    before = torch.cuda.memory_allocated(bench.device)
    work()
    return torch.cuda.max_memory_allocated(bench.device) - before


def _latent(bench: Bench) -> tuple[int, int, int]:
    config = bench.sizes.dit
    return config.in_channels, config.input_size, config.input_size


def _on_host(batch: int, shape: tuple[int, ...], classes: int) -> Batches:
    """Yield one batch over and over, from pinned memory where there is a GPU."""
    given, labels = torch.rand(batch, *shape) * 2 - 1, torch.randint(classes, (batch,))
    if torch.cuda.is_available():
        given, labels = given.pin_memory(), labels.pin_memory()
    while True:
        yield given, labels
