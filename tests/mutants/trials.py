"""A copy of the repository in which one fault after another is tried."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.mutants.faults import Fault

_SUITE = "not services and not ceph and not long and not fonts"
_QUIET = ("-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist")
_NO_TESTS_RAN = 5


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
        assert code != _NO_TESTS_RAN, f"the tests chosen for {fault.place} are not there"
        return Trial("survived" if code == 0 else "caught", round(time.monotonic() - began, 1), len(tests), by)

    def _run(self, tests: list[str], limit_s: float) -> tuple[int, str]:
        chosen = self.folder / "chosen.json"
        chosen.write_text(json.dumps(tests), encoding="utf-8")
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        command = [
            sys.executable,
            "-m",
            "pytest",
            *_QUIET,
            "-p",
            "tests.mutants.chosen",
            "--chosen",
            str(chosen),
            *files,
        ]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(
            command, cwd=self.folder, env=self._environment, start_new_session=True, text=True, **pipes
        )
        try:
            printed, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return -signal.SIGKILL, "FAILED it does not end"
        return process.returncode, printed
