"""The processes of a storm: PostgreSQL, Redis, API, workers and sweeps, each to be killed, frozen and healed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from signal import Signals
from typing import Any

import httpx2

from api.db import Database
from api.settings import Settings
from benchmarks.nodes import environment_of
from benchmarks.storm import witness
from migrations.run import upgrade
from tests.servers import PostgresServer, RedisServer, free_port

LEASE_S = 3.0
SETTINGS: dict[str, Any] = {
    "lease_s": LEASE_S,
    "heartbeat_s": 1.0,
    "poll_s": 1.0,
    "sweep_s": 0.5,
    "stop_grace_s": 5.0,
    "retry_delay_s": 0.1,
    "max_attempts": 50,
    "gpu_slots": 2,
    "cpu_slots": 1,
}
_KEEP_S = 0.2
_READY_S = 120.0
_ROOT = Path(__file__).parents[2]


class Role:
    """One process of ours that comes back when it dies, unless it is told to stay down."""

    def __init__(self, name: str, argv: list[str], environment: dict[str, str], folder: Path) -> None:
        """Make the process's role; nothing runs yet."""
        self.name = name
        self.pids: list[int] = []
        """Ids of all processes that have had the role, the newest last."""
        self._argv = witness.named(name, argv)
        self._environment = environment
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def keep(self) -> None:
        """Start the process if it does not run."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                with self._log.open("ab") as log:
                    self._process = subprocess.Popen(
                        self._argv, env=self._environment, stdout=log, stderr=log, cwd=_ROOT
                    )
                self.pids.append(self._process.pid)

    def signal(self, number: Signals) -> int:
        """Send a signal; the process that got it."""
        with self._lock:
            assert self._process is not None
            self._process.send_signal(number)
            return self._process.pid

    def end(self, number: Signals) -> None:
        """End the process for good."""
        with self._lock:
            if self._process is not None:
                with suppress(ProcessLookupError):
                    self._process.send_signal(signal.SIGCONT)
                    self._process.send_signal(number)
                self._process.wait()


class StormCluster:
    """Everything that a storm can hit. Used as a context."""

    def __init__(self, folder: Path, *, workers: int, sweeps: int, sabotage: str | None) -> None:
        """Start the two servers and migrate."""
        (folder / "postgres").mkdir()
        (folder / "redis").mkdir()
        folder.chmod(0o755)
        self.folder = folder
        self.postgres = PostgresServer(folder / "postgres")
        self.redis = RedisServer(folder / "redis")
        self.postgres.start()
        self.redis.start()
        data_dir = folder / "data"
        data_dir.mkdir()
        self.port = free_port()
        trainer = [sys.executable, "-m", "benchmarks.storm.trainer"]
        if sabotage == "forgetful_trainer":
            trainer[2:] = ["benchmarks.storm.sabotage", sabotage, "benchmarks.storm.trainer"]
        self.settings = Settings(
            data_dir=data_dir,
            database_url=self.postgres.url(),
            broker_url=self.redis.url(),
            port=self.port,
            trainer_command=trainer,
            **SETTINGS,
        )
        upgrade(self.settings.database)
        self.database = Database(self.settings.database)
        witness.install(self.database)
        environment = environment_of(self.settings) | {"PYTHONPATH": str(_ROOT)}
        run = [sys.executable, "-m", *(["benchmarks.storm.sabotage", sabotage] if sabotage else [])]
        subprocess.run([sys.executable, "-m", "api.keys"], env=environment, cwd=_ROOT, check=True, capture_output=True)
        serve = ["uvicorn", "api.app:create_app", "--factory", "--host", "127.0.0.1", "--port", str(self.port)]
        self.api = Role("api", [*run, *serve, "--log-level", "warning"], environment, folder)
        self.workers = [Role(f"worker-{n}", [*run, "worker"], environment, folder) for n in range(workers)]
        self.sweeps = [Role(f"sweep-{n}", [*run, "worker", "sweep"], environment, folder) for n in range(sweeps)]
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    @property
    def roles(self) -> list[Role]:
        """All processes of ours."""
        return [self.api, *self.workers, *self.sweeps]

    @property
    def key(self) -> str:
        """The first API key."""
        return (self.settings.data_dir / "api-key").read_text(encoding="utf-8").strip()

    def start(self) -> None:
        """Start everything and wait until the API is ready."""
        self._keeper.start()
        deadline = time.monotonic() + _READY_S
        with httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=2.0) as client:
            while True:
                with suppress(httpx2.HTTPError):
                    if client.get("/readyz").status_code == httpx2.codes.OK:
                        return
                if time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "api.log").read_text(encoding="utf-8")[-2000:])
                time.sleep(0.1)

    def trainers(self) -> list[int]:
        """Trainers that run now."""
        noted = (self.settings.data_dir / "work").glob("*/child.json")
        found = []
        for path in noted:
            with suppress(OSError, ValueError, KeyError):
                pid = int(json.loads(path.read_text(encoding="utf-8"))["pid"])
                if b"benchmarks.storm" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def busy_workers(self) -> list[Role]:
        """Workers that have a trainer now."""
        parents = set()
        for pid in self.trainers():
            with suppress(OSError):
                stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
                parents.add(int(stat.rpartition(")")[2].split()[1]))
        return [role for role in self.workers if role.pids[-1] in parents]

    def stop(self) -> None:
        """End everything, workers first."""
        self._ended.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for role in reversed(self.roles):
            role.end(signal.SIGKILL)
        for pid in self.trainers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.database.close()
        self.redis.stop()
        self.postgres.stop()

    def _keep(self) -> None:
        while not self._ended.is_set():
            for role in self.roles:
                role.keep()
            self._ended.wait(_KEEP_S)
