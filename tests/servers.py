"""Real servers for tests: PostgreSQL and Redis, each in a folder of its own on a free loopback port.

They are children that the kernel ends with us (`setpriv --pdeathsig`), so nothing is left behind even by a kill -9. The
classes know nothing of pytest; the fixtures that share them are in `tests/conftest.py`.
"""

from __future__ import annotations

import itertools
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import psycopg
from redis import Redis
from redis.exceptions import RedisError

_START_S = 120.0
_USER = "nobody"  # PostgreSQL refuses root
_NEEDED = {
    "postgresql": ("setpriv", "initdb", "postgres"),
    "redis": ("setpriv", "redis-server"),
    "prometheus": ("setpriv", "prometheus", "promtool"),
}
_DEBIANS = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)  # it has them in no PATH


def _found(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_DEBIANS]))


def missing(server: str) -> list[str]:
    """Programs of a server that this machine lacks."""
    return [program for program in _NEEDED[server] if not _found(program)]


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A child process that answers on `port` once `start` has returned. It keeps its folder between starts."""

    quick_end = signal.SIGTERM

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it, unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, cwd=self.folder, env=self._environment
            )

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._command()[-1]}: {(self.folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, number: signal.Signals | None = None) -> None:
        """End it at once, or as the signal says."""
        if self._process is not None:
            self._process.send_signal(number or self.quick_end)
            self._process.wait()
            self._process = None

    def freeze(self, number: signal.Signals = signal.SIGSTOP) -> None:
        """Stop it for a while; SIGCONT lets it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError


class PostgresServer(Server):
    """PostgreSQL without a password. Durable as a test needs it: what was committed survives the death of processes.

    Where we are root its folder goes to an unprivileged user, who must be able to reach it: pytest's folders are for
    their owner alone.
    """

    quick_end = signal.SIGQUIT  # its children too, without a checkpoint

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._numbers = itertools.count(1)
        self._setpriv = ["setpriv", "--pdeathsig", "INT"]
        if os.geteuid() == 0:
            user = pwd.getpwnam(_USER)
            self._setpriv += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
            os.chown(folder, user.pw_uid, user.pw_gid)
        initdb = [*self._setpriv, _found("initdb") or "initdb", "-D", str(folder / "data"), "--no-sync"]
        initdb += ["-U", "difftune", "-A", "trust"]
        subprocess.run([*initdb, "-E", "UTF8", "--locale=C.UTF-8"], check=True, stdout=subprocess.DEVNULL, cwd=folder)

    def url(self, database: str = "postgres") -> str:
        """Address of a database, as SQLAlchemy wants it."""
        return f"postgresql+psycopg://difftune@127.0.0.1:{self.port}/{database}"

    def new_database(self, like: str | None = None) -> str:
        """URL of a new database: an empty one, or a copy of one that nobody uses."""
        name = f"db{next(self._numbers)}"
        self.start()
        self.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {like}" if like else ""))
        return self.url(name)

    @contextmanager
    def database(self, like: str | None = None) -> Iterator[str]:
        """The same for a while: each is 7 MB in hundreds of files."""
        url = self.new_database(like)
        yield url
        self.start()
        self.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> None:
        """One statement outside any transaction."""
        with psycopg.connect(self._address(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _address(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=difftune dbname={database} connect_timeout=2"

    def _command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "max_connections": "300",
            "shared_buffers": "32MB",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        folder, postgres = str(self.folder / "data"), _found("postgres") or "postgres"
        return [*self._setpriv, postgres, "-D", folder, "-p", str(self.port), *settings]

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._address("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True


class RedisServer(Server):
    """Redis with databases 0 to 15, saved only when told to."""

    def url(self, database: int = 0) -> str:
        """Address of a database, as Celery wants it."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def flush(self) -> None:
        """Forget everything."""
        self._ask(lambda redis: redis.flushall())

    def length(self, queue: str) -> object:
        """Messages that wait in a list."""
        return self._ask(lambda redis: redis.llen(queue))

    def push(self, queue: str, message: str) -> None:
        """Put a message into a list."""
        self._ask(lambda redis: redis.lpush(queue, message))

    def snapshot(self) -> Path:
        """Save what it knows now; the file, for `restore`."""
        self._ask(lambda redis: redis.save())
        return Path(shutil.copy(self.folder / "dump.rdb", self.folder / f"snapshot-{time.time_ns()}.rdb"))

    def restore(self, snapshot: Path) -> None:
        """Fall back to an old snapshot: what happened since is forgotten, what was done since is there again."""
        self.stop(signal.SIGKILL)
        shutil.copy(snapshot, self.folder / "dump.rdb")
        self.start()

    def _command(self) -> list[str]:
        redis = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", "."]
        return ["setpriv", "--pdeathsig", "INT", *redis]

    def _answers(self) -> bool:
        try:
            return bool(self._ask(lambda redis: redis.ping()))
        except RedisError:
            return False

    def _ask(self, question: Callable[[Redis], object]) -> object:
        with Redis(port=self.port, socket_timeout=10) as redis:
            return question(redis)


class PrometheusServer(Server):
    """Prometheus, which scrapes every fifth of a second; `config` is completed by it."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        super().__init__(folder)
        quick = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
        (folder / "prometheus.yml").write_text(json.dumps({**config, "global": quick}), encoding="utf-8")

    def asked(self, path: str, **query: str) -> Any:
        """What its API says of a query."""
        with urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(query)}") as answer:
            return json.load(answer)["data"]

    def _command(self) -> list[str]:
        where = f"--web.listen-address=127.0.0.1:{self.port}"
        config, data = f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data"
        return ["setpriv", "--pdeathsig", "TERM", "prometheus", config, data, where]

    def _answers(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/-/ready") as answer:
                return bool(answer.status == HTTPStatus.OK)
        except OSError:
            return False
