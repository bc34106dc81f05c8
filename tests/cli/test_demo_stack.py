"""The demo's own stack."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

WAITS = """
import pathlib, sys, time
from cli.demo.stack import DemoStack
with DemoStack(pathlib.Path(sys.argv[1])) as stack:
    print(stack.url, flush=True)
    time.sleep(100)
"""


@pytest.mark.long
def test_a_demo_that_is_told_to_end_takes_its_service_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WAITS, str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as demo:
        assert demo.stdout is not None
        url = demo.stdout.readline().strip()
        httpx2.get(f"{url}/readyz", trust_env=False).raise_for_status()
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(60) == 128 + signal.SIGTERM
    time.sleep(0.2)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/readyz", trust_env=False)
