"""`difftune up` as a user starts it: a process with a data folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.parts import Part
from cli.stack import Stack, StackError

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0
Start = Callable[..., subprocess.Popen[bytes]]


def wait(what: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := what()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return value


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def state_of(data_dir: Path) -> dict[str, Any]:
    return json.loads(wait(lambda: (p := data_dir / "stack.json").exists() and p.read_text()))


def renewed(data_dir: Path, before: dict[str, Any]) -> dict[str, Any] | None:
    """The stack's state once none of its former processes is in it."""
    now = state_of(data_dir)
    return None if set(now["pids"].values()) & set(before["pids"].values()) else now


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `difftune up` on a free port with the test's data folder; kills what is left at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def up(*options: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DIFFTUNE_")}
        argv = [sys.executable, "-m", "cli", "up", "--data-dir", str(tmp_path / "data"), *(options or ("--port", "0"))]
        with (tmp_path / f"up-{len(started)}.log").open("wb") as log:
            process = subprocess.Popen(argv, env=clean | (environment or {}), cwd=ROOT, stdout=log, stderr=log)
        started.append(process)
        return process

    yield up
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_stack_starts_heals_itself_and_stops(start: Start, data_dir: Path, tmp_path: Path) -> None:
    stack = start("--port", "0", "--slots", "1")
    state = state_of(data_dir)
    with httpx2.Client(base_url=state["url"], trust_env=False, timeout=20.0) as client:
        assert client.get("/readyz").json()["status"] == "ready"
        assert client.get("/v1/models").status_code == 401
        key = (data_dir / "api-key").read_text().strip()
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200

        second = start()
        assert second.wait(timeout=PATIENCE_S) == 1
        assert f"process {stack.pid} at {state['url']}" in (tmp_path / "up-1.log").read_text()

        for pid in state["pids"].values():
            os.kill(pid, signal.SIGKILL)
    wait(lambda: not any(alive(pid) for pid in state["pids"].values()))
    answer = httpx2.get(f"{state['url']}/healthz", trust_env=False, timeout=20.0)
    assert answer.status_code == 200  # asked while the API was down: it waited
    healed = wait(lambda: renewed(data_dir, state))
    assert healed["url"] == state["url"]

    stack.send_signal(signal.SIGINT)
    assert stack.wait(timeout=PATIENCE_S) == 0
    assert not [pid for pid in healed["pids"].values() if alive(pid)]
    assert not (data_dir / "stack.json").exists()
    said = (tmp_path / "up-0.log").read_text()
    assert said.startswith("difftune is starting")
    assert state["url"] in said
    assert str(data_dir / "api-key") in said
    assert key not in said
    assert (data_dir / "api-key").stat().st_mode & 0o777 == 0o600
    written = [path for path in (data_dir, *data_dir.rglob("*")) if path.exists()]
    assert {path.stat().st_mode & 0o777 for path in written} <= {0o700, 0o600}


def test_nothing_outlives_a_killed_stack(start: Start, data_dir: Path) -> None:
    stack = start()
    pids = state_of(data_dir)["pids"].values()
    assert all(alive(pid) for pid in pids)
    stack.send_signal(signal.SIGKILL)
    wait(lambda: not any(alive(pid) for pid in pids), timeout_s=5)


def test_a_taken_port_is_named(start: Start, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert start("--port", str(port)).wait(timeout=PATIENCE_S) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in (tmp_path / "up-0.log").read_text()


@pytest.mark.parametrize("below", [".", "deeper"])
def test_a_data_folder_that_cannot_be_one_is_named(start: Start, data_dir: Path, tmp_path: Path, below: str) -> None:
    data_dir.write_text("a file")
    folder = (data_dir / below).resolve()
    assert start("--data-dir", str(folder), "--port", "0").wait(timeout=PATIENCE_S) == 1
    said = (tmp_path / "up-0.log").read_text()
    assert said.startswith(f"difftune: the data folder {folder} cannot be used: ")
    assert said.count("\n") == 1, said


def test_a_database_that_is_none_is_told_in_a_line(start: Start, data_dir: Path, tmp_path: Path) -> None:
    data_dir.mkdir()
    (data_dir / "difftune.sqlite3").write_bytes(b"not a database" * 100)
    assert start().wait(timeout=PATIENCE_S) == 1
    said = (tmp_path / "up-0.log").read_text()
    assert "file is not a database" in said.splitlines()[-1]
    assert said.count("\n") == 2, said  # "is starting" first
    assert "Traceback" in (data_dir / "logs" / "start.log").read_text()


def test_a_setting_that_is_wrong_is_named(start: Start, tmp_path: Path) -> None:
    assert start(environment={"DIFFTUNE_LEASE_S": "soon", "DIFFTUNE_GPU_SLOTS": "-1"}).wait(timeout=PATIENCE_S) == 1
    said = (tmp_path / "up-0.log").read_text()
    assert said.startswith("difftune: DIFFTUNE_")
    assert "DIFFTUNE_LEASE_S: Input should be a valid number" in said
    assert "Traceback" not in said


def test_a_stop_during_the_start_is_a_stop(start: Start, data_dir: Path) -> None:
    stack = start()
    wait(lambda: (data_dir / "difftune.sqlite3").exists())
    stack.send_signal(signal.SIGTERM)
    assert stack.wait(timeout=PATIENCE_S) == 0
    assert not (data_dir / "stack.json").exists()


def test_a_stack_is_reached_at_the_address_that_it_tells(tmp_path: Path) -> None:
    everywhere = {"0.0.0.0": "127.0.0.1", **({"::1": "[::1]", "::": "[::1]"} if has_ipv6() else {})}
    for number, (host, at) in enumerate(everywhere.items()):
        stack = Stack(tmp_path / str(number), host=host, port=0, environment=dict(os.environ), drain_s=5.0)
        assert stack.url == f"http://{at}:{stack.port}"
        with socket.create_connection((at.strip("[]"), stack.port), timeout=5):
            stack._stop()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as bound:
            bound.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_log_that_has_grown_is_moved_aside_while_its_process_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.parts._MAX_LOG_BYTES", 10_000)
    script = "import time\nfor n in range(10**9):\n    print(n, flush=True)\n    time.sleep(n > 5000)"
    part = Part("talker", [sys.executable, "-c", script], {}, tmp_path / "a.log")
    part.start()
    try:
        wait(lambda: part.log.stat().st_size > 10_000)
        part.rotate_log()
        older = (tmp_path / "a.log.1").read_text()
        assert older.startswith("0\n1\n")
        assert len(older) > 10_000
        wait(lambda: part.log.stat().st_size > 0)
        assert b"\0" not in part.log.read_bytes()[:100], "it appends: no hole where the moved part was"
    finally:
        part.signal(signal.SIGKILL)
        wait(lambda: not part.runs)


def test_an_api_that_never_answers_is_told_so(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleeps(self: Stack, name: str, *_module: str, keep_fds: list[int] | None = None) -> Part:
        return Part(name, ["sleep", "60"], dict(os.environ), self.data_dir / "logs" / f"{name}.log", keep_fds or [])

    monkeypatch.setattr(Stack, "_part", sleeps)
    monkeypatch.setattr(Stack, "_once", lambda *_: "")
    monkeypatch.setattr("cli.stack._READY_S", 0.0)
    monkeypatch.setattr("cli.stack._ANSWER_S", 0.2)
    monkeypatch.setattr("cli.stack.signal.signal", lambda *_: None)
    stack = Stack(data_dir, host="127.0.0.1", port=0, environment=dict(os.environ), drain_s=5.0)
    with pytest.raises(StackError, match=r"not ready after 0 s .* log .*api\.log is empty"):
        stack.run(lambda: None)
