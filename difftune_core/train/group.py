"""The processes that train beside the first: started at its first step, led step by step, ended with it.

They are plain children, in the process group of the first, so that one signal ends all; launchers that give each
process a session of its own (torchrun does) would leave orphans. The first one alone speaks to the supervisor, judges
and saves; the others wait meanwhile for a byte on their standard input, and end when it is closed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from difftune_core.config.transfer import TransferConfig
from difftune_core.families.preparation import Folders
from difftune_core.hooks import Hooks, OutcomeEvent, TaskError
from difftune_core.interruption import Stopped
from difftune_core.runtime.memory import out_of_memory
from difftune_core.train.loop import Loop
from difftune_core.train.replica import join, leave
from difftune_core.train.step import StepResult

ADVANCE = b"a"
NO_MEMORY = 76  # exit status of a process for want of it
_NOTICED_S = 2.0  # after the death of a process the others' errors come first, and its own is noticed within this
_OWN_WORD_S = 20.0  # what fails in one process for a reason of the run fails in the first too, which names it


@contextmanager
def spread(config: TransferConfig, folders: Folders, hooks: Hooks, loop: Loop[Any]) -> Iterator[None]:
    """Spread the loop's steps over as many processes as the config says; nothing to do for one."""
    if config.resources.gpus == 1:
        yield
        return
    group, alone = Group(config, folders, hooks, loop), loop.advance
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
    """The others, seen from the first."""

    def __init__(self, config: TransferConfig, folders: Folders, hooks: Hooks, loop: Loop[Any]) -> None:
        """Nothing is started yet."""
        self._config = config
        self._folders = folders
        self._hooks = hooks
        self._loop = loop
        self._others: list[subprocess.Popen[bytes]] = []
        self._meeting = tempfile.TemporaryDirectory(prefix="ranks-")
        self._last_word = threading.Lock()
        self._closed = threading.Event()

    def advance(self, step: Callable[[], StepResult]) -> StepResult:
        """Take a step together."""
        if not self._others:
            self._start()
        for process in self._others:
            assert process.stdin is not None, "a pipe"
            process.stdin.write(ADVANCE)
        return step()

    def close(self) -> None:
        """End the others: they hold nothing that is not here."""
        with self._last_word:
            self._closed.set()
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

    def _watch(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        """Pass on what it prints; if it ends before it should, say so and end this process, wherever that waits."""
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


def _follower(folder: Path, rank: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "difftune_core.train.follow", str(folder), str(rank)]
    return subprocess.Popen(  # noqa: S603  # our own command line, no shell
        command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def _outcome(rank: int, status: int) -> OutcomeEvent:
    """As the supervisor says it of a trainer that left no outcome."""
    if status == NO_MEMORY:
        return out_of_memory(MemoryError(), "train")
    if status >= 0:
        return OutcomeEvent(code="crashed", message=f"The trainer's process {rank} ended with status {status}.")
    with suppress(ValueError):
        return OutcomeEvent(
            code="killed", message=f"The trainer's process {rank} was killed by {signal.Signals(-status).name}."
        )
    return OutcomeEvent(code="killed", message=f"The trainer's process {rank} was killed by signal {-status}.")
