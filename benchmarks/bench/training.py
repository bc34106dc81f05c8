"""A whole job of the tiny family beside the released trainer's loop, and each lever by itself.

A job here begins with images in files and ends with weights, average and optimizer in a file; both sides take the same
number of supervised steps. Sampling and figures are in neither: the released trainer has none.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import difftune_core
from benchmarks.harness.blocks import MIN_BLOCKS, Side, alternate
from benchmarks.harness.claims import Bar, Claim, Guard, faster
from benchmarks.harness.equality import same_gradient
from benchmarks.references.diffusion import NumpyDiffusion
from benchmarks.references.files import FeatureFiles, endless
from benchmarks.references.images import ImageFolder
from benchmarks.references.training import Levers, PlainLoop, Source, encoding
from benchmarks.scale.data import CLASSES, write_images
from difftune_core.channel import SilentHooks
from difftune_core.config.card import find_card
from difftune_core.config.course import closed
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.batch import losses_of, make_batch
from difftune_core.families.dit.files import load_plain_dit
from difftune_core.families.dit.label_rows import with_classes
from difftune_core.families.preparation import Folders
from difftune_core.families.table import find_base_model
from difftune_core.networks.autoencoder_kl import AutoencoderKL, anatomy_of
from difftune_core.networks.dit import DiT
from difftune_core.train.run import Run, configure, prepared

BAR = Bar(at_least=3.0)
_MODELS = Path(difftune_core.__file__).parent / "weights"
_IMAGES, _STEPS, _BATCH = 200, 60, 32
_HYPERPARAMETERS = {"max_steps": _STEPS, "batch_size": _BATCH, "log_every_steps": 10}
_LEVERS = ("cached", "fused", "resident", "unsynchronised")


def measured(folder: Path) -> list[Claim]:
    """Time whole jobs, then each lever."""
    torch.set_num_threads(1)
    data = write_images(folder / "images.zip", _IMAGES)
    with zipfile.ZipFile(data) as packed:
        packed.extractall(folder / "images")  # our own, made above
    task, count = Both(folder, data), itertools.count()
    whole = alternate(
        Side("released trainer", lambda: task.theirs(folder / "theirs.pt")),
        Side("difftune", lambda: task.ours(folder / f"ours-{next(count)}")),
        blocks=MIN_BLOCKS,
        block_s=0.0,
        clock=time.process_time,
    )
    told = {
        "images": _IMAGES,
        "steps": _STEPS,
        "batch_size": _BATCH,
        "covers": "read, encode, train, save",
        "clock": "cpu",
    }
    run = task.prepared(folder / "guard")
    guard = guarded(run)
    claims = [faster("training", whole, bar=BAR, guard=guard, details=told)]
    return [*claims, *ladder(run, task.source(folder, run), guard)]


class Both:
    """A job that both sides do."""

    def __init__(self, folder: Path, data: Path) -> None:
        """Set the job up; nothing is made yet."""
        self._folder, self._data = folder, data
        given: dict[str, Any] = {
            "model": "tiny-dit",
            "method": {"type": "supervised", "supervised": {"hyperparameters": _HYPERPARAMETERS}},
            "samples": {"num_images": 0},
            "evaluation": {"holdout_fraction": 0.1},
        }
        card = find_card("tiny-dit", [_MODELS])
        self._config = resolve(TransferConfig.model_validate(given), card, num_threads=1)

    def prepared(self, out: Path) -> Run:
        """Bring our run to its first step, with caches of its own."""
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        folders = Folders(self._data, None, [_MODELS], out / "cache", out)
        base = find_base_model("tiny-dit", [_MODELS])
        device = configure(self._config)
        return prepared(closed(self._config, _IMAGES), base, folders, SilentHooks(), device)

    def ours(self, out: Path) -> None:
        """Do the job with our trainer."""
        loop = self.prepared(out).loop
        for _ in range(_STEPS):
            loop.advance()
        loop.save(is_last=True)
        shutil.rmtree(out)

    def theirs(self, out: Path) -> None:
        """Do the job as the released trainer does."""
        model = with_classes(load_plain_dit(_MODELS / "tiny-dit" / "dit", "tiny-dit"), CLASSES, "reuse_rows")
        loop = PlainLoop(model, Levers(tf32=True), self.source(self._folder), batch_size=_BATCH)
        for _ in range(_STEPS):
            loop.step()
        state: dict[str, Any] = {"model": loop.model, "ema": loop.average, "opt": loop.optimizer}
        torch.save({name: part.state_dict() for name, part in state.items()}, out)

    def source(self, folder: Path, run: Run | None = None) -> Source:
        """Read pictures from their folder; with a run also its latents, from files and resident."""
        pictures = endless(ImageFolder(folder / "images", 32), _BATCH)
        encode = encoding(*_autoencoder())
        if run is None:
            return Source(pictures, encode)
        latents: Any = run.task.data.target_latents
        places, sides = torch.arange(len(latents)), torch.zeros(len(latents), dtype=torch.bool)
        files = FeatureFiles.write(folder / "f", torch.stack(latents.posteriors(places, sides), dim=1), latents.labels)
        return Source(pictures, encode, latents, endless(files, _BATCH))


def _autoencoder() -> tuple[AutoencoderKL, float]:
    """Load the tiny family's autoencoder, with its scale."""
    folder = _MODELS / "tiny-dit" / "vae"
    config = json.loads((folder / "config.json").read_bytes())
    anatomy = anatomy_of(config)
    assert anatomy is not None, "the bundled one is of the usual blocks"
    network = AutoencoderKL(anatomy)
    network.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    return network, float(config["scaling_factor"])


def guarded(run: Run) -> Guard:
    """Compare a step's gradient by the released loss with ours."""
    state, data, config = run.loop.state, run.task.data, run.loop.config
    batch = make_batch(config, data, 0)
    noised, labels, tables = batch.noised, batch.condition, NumpyDiffusion()
    assert isinstance(labels, Tensor), "of classes"
    return same_gradient(
        state.model,
        lambda: tables.losses(state.model, noised.x0, noised.t, labels, noised.noise).mean(),
        lambda: losses_of(state.model, batch, config.method, data).mean(),
    )


def ladder(run: Run, source: Source, guard: Guard) -> list[Claim]:
    """Switch levers on one after the other, each beside the rung below; our own step is beside the last."""
    model: DiT = run.task.start()
    rungs = [(name, PlainLoop(model, levers, source, batch_size=_BATCH)) for name, levers in Levers.ladder(*_LEVERS)]
    claims = []
    for (below, plain), (name, lever) in itertools.pairwise(rungs):
        compared = alternate(
            Side(f"up to {below}", plain.step), Side(f"and {name}", lever.step), clock=time.process_time
        )
        claims.append(faster(f"training: {name}", compared, guard=guard, details={"clock": "cpu"}))
    last, own = Side("all levers", rungs[-1][1].step), Side("difftune's step", run.loop.advance)
    top = alternate(last, own, clock=time.process_time)
    return [*claims, faster("training: our own step", top, guard=guard, details={"clock": "cpu"})]
