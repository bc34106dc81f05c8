"""An embedded stack for the length of the demo: `difftune up` as a child process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from difftune.service import Service

_STOP_TIMEOUT_S = 30.0


class DemoStack:
    """Starts on entry, over a data folder and with a free port; stops everything on exit."""

    def __init__(self, data_dir: Path) -> None:
        """Make a stack; nothing runs yet."""
        self._data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None
        self._ended_by: Any = signal.SIG_DFL
        self.url = ""
        self.key = ""

    def connected(self) -> Service:
        """Return a client of the stack."""
        return Service(self.url, self.key)

    def __enter__(self) -> Self:
        """Wait until the API is ready. SIGTERM ends this process as an exit does, and so the stack with it."""
        self._ended_by = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        try:
            return self._started()
        except BaseException:
            self._stop()
            raise

    def _started(self) -> Self:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        log = (self._data_dir / "up.log").open("wb")
        command = [sys.executable, "-m", "cli", "up", "--data-dir", str(self._data_dir), "--port", "0"]
        self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603  # ours
        log.close()
        state = self._data_dir / "stack.json"
        while not state.is_file():
            if self._process.poll() is not None:  # it gives up by itself when it takes too long
                raise RuntimeError(f"the stack did not start: see {self._data_dir / 'up.log'}")
            time.sleep(0.1)
        self.url = json.loads(state.read_text(encoding="utf-8"))["url"]
        self.key = (self._data_dir / "api-key").read_text(encoding="utf-8").strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        self._stop()
        signal.signal(signal.SIGTERM, self._ended_by)

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
