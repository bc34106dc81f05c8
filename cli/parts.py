"""Processes of an embedded stack: each is started again when it dies, and none outlives its parent."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_HEALTHY_S = 60.0
_MAX_LOG_BYTES = 10 << 20
_TAIL_BYTES = 2000
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass
class Part:
    """One process of the stack. Its output goes to `log`."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    keep_fds: Sequence[int] = ()
    deaths: int = 0
    """Deaths since the process last ran for a minute."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _started_at: float = field(default=0.0, init=False)
    _start_again_at: float = field(default=0.0, init=False)

    @property
    def pid(self) -> int | None:
        """Id of the process while it runs."""
        return self._process.pid if self._process is not None else None

    @property
    def runs(self) -> bool:
        """Whether the process has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process, in a session of its own: Ctrl-C at the terminal reaches the stack alone."""
        self.rotate_log()
        parent = os.getpid()

        def die_with_parent() -> None:
            if _LIBC is not None:
                _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        with self.log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  # our own command line, no shell
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                pass_fds=self.keep_fds,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  # this process has one thread
            )
        self._started_at = time.monotonic()

    def keep_alive(self) -> bool:
        """Start the process again if it has died, after a pause that grows; return whether it was started now."""
        if self.runs:
            return False
        now = time.monotonic()
        if self._start_again_at < self._started_at:  # newly found dead
            self.deaths = 1 if now - self._started_at > _HEALTHY_S else self.deaths + 1
            self._start_again_at = now + min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (self.deaths - 1))
        if now < self._start_again_at:
            return False
        self.start()
        return True

    def rotate_log(self) -> None:
        """Move what has grown too long aside while the process goes on writing: its descriptor appends to what is left.

        On a full disk the older part is lost: a log must not keep others from their room.
        """
        with suppress(OSError):
            if self.log.stat().st_size <= _MAX_LOG_BYTES:
                return
            older = self.log.with_suffix(".log.1")
            try:
                shutil.copyfile(self.log, older)
            except OSError:
                older.unlink(missing_ok=True)
            os.truncate(self.log, 0)

    def signal(self, number: int) -> None:
        """Send the process a signal, if it runs."""
        if self._process is not None and self.runs:
            self._process.send_signal(number)

    def tail(self) -> str:
        """The end of the process's log."""
        try:
            return self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
        except OSError:
            return ""
