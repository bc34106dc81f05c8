"""A copy of the repository in which one fault after another is tried."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.mutants.faults import Fault

_SUITE = "not services and not ceph and not long and not fonts"
_QUIET = ("-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist")
_CHOSEN = ("-x", "-W", "ignore::pytest.PytestAssertRewriteWarning", "-p", "tests.mutants.chosen", "--chosen")
_PASSED, _FAILED, _NOT_COLLECTED, _NOT_LOADED = 0, 1, 2, 4  # pytest's exit statuses, here of sound requests
_CAUGHT = {_FAILED, _NOT_COLLECTED, _NOT_LOADED, -signal.SIGKILL}
_LEFT_OVER = "PytestUnraisableExceptionWarning"  # raised as pytest ends, after its last test: a child, a file left open


def _kill(leader: int) -> None:
    with suppress(ProcessLookupError):  # it has ended in this moment
        os.killpg(leader, signal.SIGKILL)


@dataclass(frozen=True)
class Trial:
    """What came of one fault: `caught`, `survived`, or `unseen` where no test runs its line."""

    outcome: str
    seconds: float
    tests: int
    by: str = ""


class Copy:
    """The repository at its last commit, in a folder of its own."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        self._root = root
        self._environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        self._runner: subprocess.Popen[str] | None = None

    def made(self) -> Self:
        """Make the copy anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=self._root, stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-x", "-C", self.folder], input=archive.stdout, check=True)
        return self

    def look(self, files: list[str]) -> None:
        """Run the tests of these files as they are and note which line each runs."""
        options = [*_QUIET, "-p", "tests.mutants.watch", "-m", _SUITE]
        log = self.folder / "look.log"
        with log.open("wb") as output:
            subprocess.run(
                [sys.executable, "-m", "pytest", *options, *files],
                cwd=self.folder, env=self._environment, stdout=output, stderr=output, check=False,
            )  # fmt: skip

    def trial(self, fault: Fault, tests: list[str], limit_s: float) -> Trial:
        """Put the fault into its file, run the tests until one fails, and put the file back."""
        if not tests:
            return Trial("unseen", 0.0, 0)
        file, began = self.folder / fault.path, time.monotonic()
        source = file.read_bytes()
        try:
            file.write_bytes(fault.applied(source))
            code, printed = self._run(tests, limit_s)
        finally:
            file.write_bytes(source)
        failed = [line.removeprefix("FAILED ") for line in printed.splitlines() if line.startswith(("FAILED", "ERROR"))]
        by = failed[0][:160] if failed else ("" if code == 0 else f"exit status {code}")
        if code not in {_PASSED, *_CAUGHT} and _LEFT_OVER in printed:
            code = _FAILED
        assert code in {_PASSED, *_CAUGHT}, f"pytest ended with {code} at {fault.place}:\n{printed[-2000:]}"
        return Trial("survived" if code == _PASSED else "caught", round(time.monotonic() - began, 1), len(tests), by)

    def check(self, tests: list[str], limit_s: float) -> None:
        """Look that the tests pass where there is no fault: else every fault would count as caught."""
        code, printed = self._run(tests, limit_s)
        assert code == _PASSED, f"without any fault pytest ended with {code}:\n{printed[-2000:]}"

    def _run(self, tests: list[str], limit_s: float) -> tuple[int, str]:
        chosen, output = self.folder / "chosen.json", self.folder / "output.txt"
        chosen.write_text(json.dumps(tests), encoding="utf-8")
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        runner = self._runner = self._runner or self._started()
        request = {"arguments": [*_QUIET, *_CHOSEN, str(chosen), *files], "output": str(output)}
        print(json.dumps(request), file=runner.stdin, flush=True)
        child = int(runner.stdout.readline())
        timer = threading.Timer(limit_s, _kill, (child,))
        timer.start()
        code = int(runner.stdout.readline())
        timer.cancel()
        return code, "FAILED it does not end" if code == -signal.SIGKILL else output.read_text("utf-8", "replace")

    def _started(self) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [sys.executable, "-m", "tests.mutants.preloaded"]
        return subprocess.Popen(command, cwd=self.folder, env=self._environment, text=True, **pipes)

    def close(self) -> None:
        """End the process that runs the tests."""
        if self._runner is not None:
            self._runner.communicate()
