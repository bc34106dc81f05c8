"""`python -m difftune_core.train.follow FOLDER RANK`: one of the processes of `difftune_core.train.group`."""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from pathlib import Path

from pydantic import TypeAdapter

from difftune_core.channel import SilentHooks
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.preparation import Folders
from difftune_core.families.table import find_base_model
from difftune_core.runtime.memory import is_out_of_memory
from difftune_core.train.group import ADVANCE, NO_MEMORY, join
from difftune_core.train.run import configure, prepared

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
    loop = prepared(config, find_base_model(config.model, folders.models), folders, SilentHooks(), device).loop
    join(loop.state, rank=rank, world=config.resources.gpus, meeting=folder / "meeting")
    while True:
        steps.get()
        loop.advance()


def _listen(steps: queue.SimpleQueue[bytes]) -> None:
    """A byte is a step; the end of the pipe is the end of this process, wherever it waits."""
    while os.read(sys.stdin.fileno(), 1) == ADVANCE:
        steps.put(ADVANCE)
    os._exit(_ORPHANED)


if __name__ == "__main__":
    main()
