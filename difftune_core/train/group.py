"""The processes that train beside the first: started at its first step, led step by step, ended with it.

They are plain children, in the process group of the first, so that one signal ends all; launchers that give each
process a session of its own (torchrun does) would leave orphans. The first one alone speaks to the supervisor, judges
and saves; the others wait meanwhile for a byte on their standard input, and end when it is closed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import distributed
from torch.distributed import FileStore  # type: ignore[attr-defined]  # public, but not listed

from difftune_core.checkpoint.state import TrainState
from difftune_core.config.transfer import TransferConfig
from difftune_core.evaluate.together import Together
from difftune_core.families.preparation import Folders
from difftune_core.hooks import Hooks, OutcomeEvent, TaskError
from difftune_core.interruption import Stopped
from difftune_core.runtime.memory import out_of_memory
from difftune_core.runtime.replica import Replica
from difftune_core.train.loop import Loop
from difftune_core.train.step import StepResult

ADVANCE, DRAW = b"a", b"d"
REQUEST = "request.json"
"""What is to be drawn: images by number, and how."""
NO_MEMORY = 76  # exit status of a process for want of it
_NOTICED_S = 2.0  # after the death of a process the others' errors come first, and its own is noticed within this
_PATIENCE = timedelta(days=365)
"""How long a process waits for the others. Who is dead is noticed by its exit, who stands still by the supervisor."""
_OWN_WORD_S = 20.0  # what fails in one process for a reason of the run fails in the first too, which names it


@contextmanager
def spread(
    config: TransferConfig, folders: Folders, hooks: Hooks, loop: Loop[Any], together: Together
) -> Iterator[None]:
    """Spread the loop's steps, and what its evaluations draw, over as many processes as the config says."""
    if config.resources.gpus == 1:
        yield
        return
    group, alone = Group(config, folders, hooks, loop, together), loop.advance
    loop.advance = lambda: group.advance(alone)
    try:
        yield
    except (TaskError, Stopped):
        raise
    except Exception:
        time.sleep(_NOTICED_S)  # if another process died, this one ends here
        raise
    finally:
        loop.advance = alone
        group.close()


class Group:
    """The other processes of a run, seen from the first."""

    def __init__(
        self, config: TransferConfig, folders: Folders, hooks: Hooks, loop: Loop[Any], together: Together
    ) -> None:
        """Make the group; no process is started yet."""
        self._together = together
        self._config = config
        self._folders = folders
        self._hooks = hooks
        self._loop = loop
        self._others: list[subprocess.Popen[bytes]] = []
        self._meeting = tempfile.TemporaryDirectory(prefix="ranks-")
        self._last_word = threading.Lock()
        self._closed = threading.Event()
        self._drawings = 0

    def advance(self, step: Callable[[], StepResult]) -> StepResult:
        """Take a step together."""
        if not self._others:
            self._start()
        self._tell(ADVANCE)
        return step()

    def draw(self, request: dict[str, Any]) -> Path:
        """Have the others draw their parts of the average's images; return the folder where they will be."""
        folder = drawing_folder(Path(self._meeting.name), self._drawings)
        self._drawings += 1
        folder.mkdir()
        (folder / REQUEST).write_text(json.dumps(request), encoding="utf-8")
        self._tell(DRAW)
        return folder

    def _tell(self, what: bytes) -> None:
        for process in self._others:
            assert process.stdin is not None, "a pipe"
            process.stdin.write(what)

    def close(self) -> None:
        """End the others: they hold nothing that is not here."""
        with self._last_word:
            self._closed.set()
        self._together.leave()
        for process in self._others:
            process.kill()
        leave(self._loop.state)
        for process in self._others:
            process.wait()
            with suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]  # a pipe
        self._meeting.cleanup()

    def _start(self) -> None:
        folder, world = Path(self._meeting.name), self._config.resources.gpus
        (folder / "config.json").write_text(self._config.model_dump_json(), encoding="utf-8")
        (folder / "folders.json").write_bytes(TypeAdapter(Folders).dump_json(self._folders))
        for rank in range(1, world):
            process = _follower(folder, rank)
            self._others.append(process)
            threading.Thread(target=self._watch, args=(rank, process), name=f"rank {rank}", daemon=True).start()
        join(self._loop.state, rank=0, world=world, meeting=folder / "meeting")
        self._together.join(world, self._loop.state.average, self.draw)

    def _watch(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        """Pass on what a process prints; if it ends too early, say so and end this process, wherever that waits."""
        assert process.stdout is not None, "a pipe"
        for line in process.stdout:
            sys.stderr.write(f"[rank {rank}] {line.decode(errors='replace')}")
            sys.stderr.flush()
        process.stdout.close()
        status = process.wait()
        if status >= 0:
            self._closed.wait(_OWN_WORD_S)
        with self._last_word:
            if not self._closed.is_set():
                self._hooks.emit(_outcome(rank, status))
                os._exit(1)


def drawing_folder(meeting: Path, number: int) -> Path:
    """Folder of the parts of one of the drawings of a run, counted from 0."""
    return meeting / f"drawing-{number}"


def _follower(folder: Path, rank: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "difftune_core.train.follow", str(folder), str(rank)]
    return subprocess.Popen(  # noqa: S603  # our own command line, no shell
        command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def _outcome(rank: int, status: int) -> OutcomeEvent:
    """The outcome of a trainer that left none, as the supervisor says it."""
    if status == NO_MEMORY:
        return out_of_memory(MemoryError(), "train")
    if status >= 0:
        return OutcomeEvent(code="crashed", message=f"The trainer's process {rank} ended with status {status}.")
    with suppress(ValueError):
        return OutcomeEvent(
            code="killed", message=f"The trainer's process {rank} was killed by {signal.Signals(-status).name}."
        )
    return OutcomeEvent(code="killed", message=f"The trainer's process {rank} was killed by signal {-status}.")


def join(state: TrainState[Any], *, rank: int, world: int, meeting: Path) -> None:
    """Train together with the processes that meet by a file; waits for all of them.

    Raises:
        RuntimeError: they do not go on from the same step.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs

    on_gpu = torch.cuda.is_available()
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, _loopback())
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=FileStore(str(meeting), world),  # no port for strangers to find
        rank=rank,
        world_size=world,
        timeout=_PATIENCE,
    )
    with _found_by_accelerate(rank, world):
        accelerator = Accelerator(
            cpu=not on_gpu, kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)]
        )
    state.replica = Replica(accelerator.prepare_model(state.model), rank, world)
    steps = state.replica.of_all(torch.tensor([float(state.step)], device=accelerator.device))
    if len(set(steps.tolist())) > 1:
        raise RuntimeError(f"the processes go on from different steps: {steps.tolist()}")


def leave(state: TrainState[Any]) -> None:
    """Train alone again."""
    state.replica = Replica(state.model)
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def _found_by_accelerate(rank: int, world: int) -> Iterator[None]:
    """Variables as a launcher sets them, and the thread count, which accelerate would change without its variable."""
    before = dict(os.environ)
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ.update({name: str(value) for name, value in places.items()})
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _loopback() -> str:
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in ("lo", "lo0") if name in names), names[0])
