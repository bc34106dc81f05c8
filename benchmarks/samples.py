"""What sample images on the way cost: `python -m benchmarks.samples` times drawings beside steps, in turn.

Blocks of steps and single drawings alternate in one process, so that both see the same machine; medians are told, and
what share of a whole run its drawings take, by the config's own number of each. The setting is the demo's, on drawn
flowers; `--config` and `--data` give another one. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import difftune_core
from cli.sample_data import sample_data
from difftune_core.channel import SilentHooks
from difftune_core.config.card import find_card
from difftune_core.config.course import closed
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.preparation import Folders
from difftune_core.families.table import find_base_model
from difftune_core.train.run import Run, configure, prepared
from difftune_core.train.samples import Samples

BUNDLED = Path(difftune_core.__file__).parent / "weights"
DEMO: dict[str, Any] = {"model": "tiny-dit", "method": {"type": "supervised"}}


def main() -> None:
    """Time sample images and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, help="transfer config, JSON; default: the demo's")
    parser.add_argument("--data", type=Path, help="archive of images; default: drawn flowers")
    parser.add_argument("--blocks", type=int, default=8, help="of steps, with a drawing after each")
    parser.add_argument("--steps", type=int, default=5, help="of a block")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measured(args, Path(folder))))  # the command's output


def measured(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the blocks; the figures of both."""
    run = _prepared(args, folder)
    loop, samples = run.loop, run.loop.samples
    assert isinstance(samples, Samples), "the trainer's own"
    steps: list[float] = []
    drawings: list[float] = []
    for number in range(args.blocks + 1):
        block = _seconds(lambda: [loop.advance() for _ in range(args.steps)]) / args.steps
        drawing = _seconds(samples.draw)
        if number:  # the first ones load what later ones find
            steps.append(block)
            drawings.append(drawing)
    training, wanted = loop.config.method.hyperparameters, loop.config.samples
    marked = (training.checkpoint_every_steps, loop.config.evaluation.every_steps)
    count = sum(wanted.is_due(step, training.max_steps, *marked) for step in range(training.max_steps + 1))
    step_s, drawing_s = statistics.median(steps), statistics.median(drawings)
    return {
        "num_images": wanted.num_images,
        "seconds_a_step": round(step_s, 4),
        "seconds_a_drawing": round(drawing_s, 4),
        "drawing_in_steps": round(drawing_s / step_s, 2),
        "drawings": count,
        "steps": training.max_steps,
        "share_of_training": round(count * drawing_s / (training.max_steps * step_s), 4),
    }


def _prepared(args: argparse.Namespace, folder: Path) -> Run:
    data = args.data or folder / "flowers.zip"
    if args.data is None:
        sample_data(data)
    given = json.loads(args.config.read_bytes()) if args.config else DEMO
    config = TransferConfig.model_validate(given)
    config = resolve(config, find_card(config.model, [BUNDLED]), num_threads=torch.get_num_threads())
    folders = Folders(data, None, [BUNDLED], folder / "cache", folder / "out")
    device = configure(config)
    return prepared(closed(config, 1), find_base_model(config.model, [BUNDLED]), folders, SilentHooks(), device)


def _seconds(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
