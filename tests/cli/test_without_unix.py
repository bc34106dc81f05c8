"""Commands that ask a service work where Python has no modules of Unix, as on Windows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_WITHOUT = """
import signal, sys
for name in ("fcntl", "grp", "pwd", "resource", "syslog", "termios"):
    sys.modules[name] = None
del signal.SIGHUP, signal.SIGKILL
from cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("jobs list --url http://127.0.0.1:9 --key k", "http://127.0.0.1:9 does not answer as a difftune service"),
        ("models list --url http://127.0.0.1:9 --key k", "http://127.0.0.1:9 does not answer as a difftune service"),
        ("up", "difftune up needs Linux or macOS"),
    ],
)
def test_a_command_works_without_the_modules_of_unix(tmp_path: Path, command: str, said: str) -> None:
    argv = [sys.executable, "-c", _WITHOUT, *command.split()]
    environment = {**os.environ, "DIFFTUNE_DATA_DIR": str(tmp_path)}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert said in done.stderr
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
