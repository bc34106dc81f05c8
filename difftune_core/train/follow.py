"""`python -m difftune_core.train.follow FOLDER RANK`: one of the processes of `difftune_core.train.group`."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from itertools import count
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from difftune_core.channel import SilentHooks
from difftune_core.config.transfer import TransferConfig
from difftune_core.evaluate.together import draw_parts
from difftune_core.families.preparation import Folders
from difftune_core.families.table import find_base_model
from difftune_core.runtime.memory import is_out_of_memory
from difftune_core.train.group import ADVANCE, DRAW, NO_MEMORY, REQUEST, drawing_folder, join
from difftune_core.train.run import Run, configure, prepared

_ORPHANED = 75  # exit status: the first process is gone


def main() -> None:
    """Prepare as the first process did, join it, and take each step with it."""
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    steps: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(steps,), name="steps", daemon=True).start()
    try:
        _follow(folder, rank, steps)
    except Exception as error:
        if is_out_of_memory(error):
            traceback.print_exc()
            os._exit(NO_MEMORY)
        raise


def _follow(folder: Path, rank: int, steps: queue.SimpleQueue[bytes]) -> None:
    config = TransferConfig.model_validate_json((folder / "config.json").read_bytes())
    folders = TypeAdapter(Folders).validate_json((folder / "folders.json").read_bytes())
    device = configure(config, rank)
    run = prepared(config, find_base_model(config.model, folders.models), folders, SilentHooks(), device)
    join(run.loop.state, rank=rank, world=config.resources.gpus, meeting=folder / "meeting")
    drawings = count()
    while True:
        if steps.get() == ADVANCE:
            run.loop.advance()
        else:
            _draw(run, drawing_folder(folder, next(drawings)), rank)


def _draw(run: Run, folder: Path, rank: int) -> None:
    """Draw this process's parts of what the first one's judge draws, of the average or the base model."""
    request = json.loads((folder / REQUEST).read_bytes())
    state = run.loop.state
    judge: Any = run.task.judge  # of a family that has its images spread
    state.settle()
    state.drop_gradients()
    with state.average_on_device():
        model = getattr(judge, "base_model", None) if request["is_base"] else state.average
        images = judge.drawn(model, torch.tensor(request["which"]), **request["how"])
        draw_parts(images, folder, rank=rank, world=state.replica.world)
    judge.rest()


def _listen(steps: queue.SimpleQueue[bytes]) -> None:
    """Read bytes, each a step or a drawing; the end of the pipe ends this process, wherever it waits."""
    while (told := os.read(sys.stdin.fileno(), 1)) in {ADVANCE, DRAW}:
        steps.put(told)
    os._exit(_ORPHANED)


if __name__ == "__main__":
    main()
