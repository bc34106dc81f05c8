"""The embedded stack: API, worker and sweep as child processes over one locked data folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType

import httpx2

from api.addresses import in_url, origin
from api.private import make_private_folder
from api.room import Reserve, shed
from cli.parts import Part
from cli.settings import TOLD
from difftune.places import STATE_FILE

_METRICS_PORT = "DIFFTUNE_METRICS_PORT"
_PARTS = ("api", "worker", "sweep")
_TICK_S = 0.1
_READY_S = 300.0  # imports alone take a minute on a machine that is busy
_ANSWER_S = 5.0
_MAX_DEATHS_AT_START = 3
_API_END_S = 8.0
_KILL_S = 5.0
_BACKLOG = 512
_ENDS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_ROTATE_EVERY_S = 5.0


class StackError(Exception):
    """The stack cannot start; the message says why and what to do."""


class Stack:
    """Used once: `open`, then `run` until a signal asks to end."""

    def __init__(self, data_dir: Path, *, host: str, port: int, environment: Mapping[str, str], drain_s: float) -> None:
        """`environment`: of the children, without address; `drain_s`: time that running trainers have to save."""
        self.data_dir = data_dir
        self._host = host
        self._drain_s = drain_s
        self._asked_to_end = 0
        self._lock = _locked(data_dir)
        self._socket = _bound(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._environment = {
            **environment,
            "DIFFTUNE_DATA_DIR": str(data_dir),
            "DIFFTUNE_HOST": host,
            "DIFFTUNE_PORT": str(self.port),
        }
        self._reserve = Reserve(data_dir)
        (data_dir / "logs").mkdir(exist_ok=True)
        descriptor = self._socket.fileno()
        self._api = self._part("api", "api", "--fd", str(descriptor), keep_fds=[descriptor])
        self._worker = self._part("worker", "worker")
        self._sweep = self._part("sweep", "worker", "sweep")

    @property
    def url(self) -> str:
        """Address of the API from this machine."""
        return origin(self._host, self.port)

    def run(self, on_ready: Callable[[], None]) -> None:
        """Migrate, start everything, keep it alive until a signal asks to end; nothing is left running.

        Raises:
            StackError: it did not become ready.
        """
        for number in _ENDS:
            signal.signal(number, self._on_signal)
        state = self.data_dir / STATE_FILE
        state.unlink(missing_ok=True)
        try:
            if self._reserve.is_short and not self._reserve.release():  # without room not even the database opens
                shed(self.data_dir)
            self._reserve.make()
            self._once("migrations.run", "upgrade")
            sys.stderr.write(self._once("api.keys"))  # of a first key that was replaced
            self._api.start()
            self._once("worker", "recover")  # nobody else can hold work of a locked folder, whatever its clock says
            self._worker.start()
            self._sweep.start()
            self._wait_until_ready()
            if not self._asked_to_end:
                self._write_state()
                on_ready()
            rotated_at = time.monotonic()
            while not self._asked_to_end:
                if time.monotonic() - rotated_at > _ROTATE_EVERY_S:
                    rotated_at = time.monotonic()
                    for part in self._parts:
                        part.rotate_log()
                restarted = [part for part in self._parts if part.keep_alive()]
                if restarted:
                    self._write_state()
                time.sleep(_TICK_S)
        finally:
            self._stop()
            state.unlink(missing_ok=True)

    @property
    def _parts(self) -> list[Part]:
        return [self._api, self._worker, self._sweep]

    def _part(self, name: str, *module: str, keep_fds: list[int] | None = None) -> Part:
        argv = [sys.executable, "-m", *module]
        environment = {**self._environment, **_metrics_port(self._environment, name)}
        return Part(name, argv, environment, self.data_dir / "logs" / f"{name}.log", keep_fds or [])

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked_to_end += 1

    def _once(self, *module: str) -> str:
        """Run a module to its end; return what it said to people."""
        argv = [sys.executable, "-m", *module]
        done = subprocess.run(argv, env=self._environment, capture_output=True, check=False)  # noqa: S603  # ours
        said = done.stderr.decode(errors="replace")
        if done.returncode != 0 and not self._asked_to_end:
            if done.returncode == TOLD:
                raise StackError(said.strip())
            log = self.data_dir / "logs" / "start.log"
            with suppress(OSError):  # the disk may be what failed
                log.write_text(said, encoding="utf-8")
            command = f"python -m {' '.join(module)}"
            raise StackError(f"{command} failed in {self.data_dir}: {_reason(said)}; the rest is in {log}")
        return said

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_S
        with httpx2.Client(base_url=self.url, timeout=_ANSWER_S, trust_env=False) as client:
            while not self._asked_to_end and not _answers(client):
                for part in self._parts:
                    part.keep_alive()
                dead = next((part for part in self._parts if part.deaths >= _MAX_DEATHS_AT_START), None)
                if dead is not None:
                    raise StackError(f"{dead.name} does not start; the end of {dead.log}:\n{dead.tail()}")
                if time.monotonic() > deadline:
                    raise StackError(self._not_ready())
                time.sleep(_TICK_S)

    def _not_ready(self) -> str:
        said = self._api.tail().strip()
        end = f"the end of {self._api.log}:\n{said}" if said else f"its log {self._api.log} is empty"
        return f"the API runs, but is not ready after {_READY_S:.0f} s (is the machine busy?); {end}"

    def _write_state(self) -> None:
        state = {"url": self.url, "pid": os.getpid(), "pids": {part.name: part.pid for part in self._parts}}
        aside = self.data_dir / f".{STATE_FILE}"
        aside.write_text(json.dumps(state), encoding="utf-8")
        aside.replace(self.data_dir / STATE_FILE)

    def _stop(self) -> None:
        """Stop worker and sweep first, so that trainers save and the API can tell; a second signal kills at once."""
        patience = self._asked_to_end + 1
        self._end([self._worker, self._sweep], self._drain_s, patience)
        self._end([self._api], _API_END_S, patience)
        self._socket.close()

    def _end(self, parts: list[Part], grace_s: float, patience: int) -> None:
        for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, _KILL_S)):
            for part in parts:
                part.signal(number)
            deadline = time.monotonic() + wait_s
            while any(part.runs for part in parts) and time.monotonic() < deadline:
                if number == signal.SIGTERM and self._asked_to_end >= patience:
                    break
                time.sleep(_TICK_S / 2)


def _metrics_port(environment: Mapping[str, str], name: str) -> dict[str, str]:
    """Choose the port of a part's own at which it serves its metrics."""
    first = environment.get(_METRICS_PORT, "")
    return {_METRICS_PORT: str(int(first) + _PARTS.index(name))} if first.isdigit() else {}


def _reason(output: str) -> str:
    """The line of a traceback that says what happened."""
    told = [line for line in output.splitlines() if line.strip() and not line.startswith((" ", "("))]
    return told[-1] if told else "no word why"


def _locked(data_dir: Path) -> int:
    try:
        import fcntl
    except ImportError:
        advice = "commands that ask a service (--url) work here; a service runs in docker, WSL or on another machine"
        raise StackError(f"difftune up needs Linux or macOS: {advice}") from None
    try:
        make_private_folder(data_dir)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StackError(f"the data folder {data_dir} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StackError(f"another stack uses the data folder {data_dir}{_who(data_dir)}") from None
    return descriptor


def _who(data_dir: Path) -> str:
    try:
        state = json.loads((data_dir / STATE_FILE).read_text(encoding="utf-8"))
        return f": process {state['pid']} at {state['url']}"
    except (OSError, ValueError, KeyError):
        return ""


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        where = f"{in_url(host)}:{port}"
        raise StackError(f"cannot listen on {where} ({error.strerror}); --port 0 takes a free port") from None
    bound.listen(_BACKLOG)
    return bound


def _answers(client: httpx2.Client) -> bool:
    """Return whether requests can be served; where nothing but room is lacking, those that delete."""
    try:
        answer = client.get("/readyz")
        lacking = set(answer.json().get("checks", {}).values()) - {"ok"}
    except (httpx2.HTTPError, ValueError):
        return False
    return answer.status_code == httpx2.codes.OK or lacking == {"no room left"}
