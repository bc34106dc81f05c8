"""An evaluation that looks for copies of the training images, beside one that does not; one thread."""

from __future__ import annotations

import io
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness.blocks import Side, alternate
from benchmarks.harness.claims import Bar, Claim, Guard, share
from difftune_core.channel import SilentHooks
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.preparation import Folders
from difftune_core.families.table import find_base_model
from difftune_core.train.run import configure, prepared

BAR = Bar(at_most=1.05)
_WEIGHTS = Path(__file__).parents[2] / "difftune_core" / "weights"
_TRAINING, _HELD_OUT, _DRAWN = 500, 500, 250
_OF_COPIES = {"train_fid", "copies", "pixel_copies", "num_train", "warnings"}


def measured(folder: Path) -> list[Claim]:
    """Time both; every figure that both have must be the same."""
    stream = np.random.default_rng(0)
    training, held_out = (_archive(folder / f"{n}.zip", n, stream) for n in (_TRAINING, _HELD_OUT + 1))
    places = Folders(data=training, validation=held_out, models=[_WEIGHTS], cache=folder / "cache", out=folder / "out")
    base = find_base_model("tiny-dit", places.models)
    settings = {"num_images": _DRAWN, "num_inference_steps": 10}
    given = TransferConfig.model_validate(
        {"model": "tiny-dit", "method": {"type": "supervised"}, "evaluation": settings}
    )
    config = resolve(given, base.card, num_threads=1)
    run = prepared(config, base, places, SilentHooks(), configure(config))
    judge, model = run.task.judge, run.loop.state.average
    before = replace(judge, training=None)
    compared = alternate(
        Side("without copies", lambda: before.figures(model, _unheard)),
        Side("with copies", lambda: judge.figures(model, _unheard)),
        blocks=3,
        block_s=0.0,
        clock=time.process_time,
    )
    with_copies, without = judge.figures(model, _unheard), before.figures(model, _unheard)
    equal = all(with_copies[name] == value for name, value in without.items() if name not in _OF_COPIES)
    guard = Guard("all other figures are equal bit for bit", equal and with_copies["copies"] is not None)
    details = {"clock": "cpu", "training": _TRAINING, "held_out": _HELD_OUT, "drawn": _DRAWN}
    return [share("copies", compared, bar=BAR, guard=guard, details=details)]


def _archive(path: Path, count: int, stream: np.random.Generator) -> Path:
    """Images of noise in two classes: what they show changes no time."""
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            buffer = io.BytesIO()
            Image.fromarray(stream.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
            archive.writestr(f"{index % 2}/{index:04d}.png", buffer.getvalue())
    return path


def _unheard(_done: int) -> None:
    return
