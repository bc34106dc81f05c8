"""The trainer as a child process: its pipes, its process group, its end."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import structlog
from pydantic import ValidationError

from difftune_core.hooks import Command, Event, OutcomeEvent, parse_event

_MAX_LINE = 1 << 20
_MAX_REPORTED = 10
_DRAIN_S = 5.0
log = structlog.get_logger(__name__)


class Child:
    """One run of `python -m difftune_core KIND`, in a session and process group of its own.

    The write end of its command pipe is held by this process alone: if we die, however, it reads end of file.
    """

    def __init__(
        self, argv: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path, keep_fds: Sequence[int]
    ) -> None:
        """Start a child in `folder`; its output goes to `log`; `keep_fds` stay open in it."""
        self.events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        """Events of the child; None when none will follow."""
        self.outcome: OutcomeEvent | None = None
        events_read, events_write = os.pipe()
        commands_read, commands_write = os.pipe()
        pipes = ["--events-fd", str(events_write), "--commands-fd", str(commands_read)]
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(  # noqa: S603  # our own command line, no shell
                    [*argv, *pipes],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(environment),
                    cwd=folder,
                    pass_fds=(events_write, commands_read, *keep_fds),
                    start_new_session=True,
                )
        except BaseException:
            os.close(events_read)
            os.close(commands_write)
            raise
        finally:
            os.close(events_write)
            os.close(commands_read)
        self.pid = self._process.pid
        os.set_blocking(commands_write, False)
        self._commands: int | None = commands_write
        self._commanding = threading.Lock()
        self._drain = threading.Thread(
            target=self._read, args=(os.fdopen(events_read, "rb"),), name=f"events {self.pid}", daemon=True
        )
        self._drain.start()

    def send(self, command: Command) -> None:
        """Say something to the child; one that has gone or does not read misses it."""
        line = command.model_dump_json(exclude_none=True).encode() + b"\n"
        with self._commanding:
            if self._commands is not None:
                with suppress(BrokenPipeError, BlockingIOError):
                    os.write(self._commands, line)

    def exited(self) -> bool:
        """Return whether the process has ended. It stays unreaped, so that its group's id cannot pass to strangers."""
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def signal(self, number: int) -> None:
        """Send a signal to the child's whole process group."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def end(self) -> int:
        """Kill what is left of the process group, close the pipes; return the exit status, negative for a signal."""
        self.signal(signal.SIGKILL)
        status = self._process.wait()
        with self._commanding:
            if self._commands is not None:
                os.close(self._commands)
                self._commands = None
        self._drain.join(_DRAIN_S)
        if self._drain.is_alive():  # a process that left the group still holds the pipe
            self.events.put(None)
        return status

    def _read(self, pipe: BinaryIO) -> None:
        reported = 0
        with pipe:
            while line := pipe.readline(_MAX_LINE):
                try:
                    event = parse_event(line)
                except ValidationError:
                    if reported < _MAX_REPORTED and not _is_newer(line):
                        log.warning("line_is_no_event", pid=self.pid, line=line[:200].decode(errors="replace"))
                        reported += 1
                    continue
                self._hear(event)
        self.events.put(None)

    def _hear(self, event: Event) -> None:
        if isinstance(event, OutcomeEvent):
            self.outcome = event
        self.events.put(event)


def _is_newer(line: bytes) -> bool:
    """Return whether the line is an event of a kind that a newer trainer may know and we may pass over."""
    try:
        value = json.loads(line)
    except ValueError:
        return False
    return isinstance(value, dict) and isinstance(value.get("type"), str) and isinstance(value.get("v"), int)
