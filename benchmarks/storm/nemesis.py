"""Faults at random, each healed in time: kill -9 and freezing for every role, and a broker that forgets."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.storm.cluster import LEASE_S, Role, StormCluster

_LONGEST_S = 1.6 * LEASE_S
_WORKER_FROZEN_S = (0.5 * LEASE_S, 3.0 * LEASE_S)  # mostly until another has gone on with what it had in work
_AT_ONCE = 64


@dataclass(frozen=True)
class Fault:
    """What was done to whom, and when."""

    kind: str
    pid: int
    """Id of the process that was hit; 0 for a server."""
    began: float
    ended: float


class Nemesis:
    """Strikes one blow after the other; what lasts, lasts in a thread of its own."""

    def __init__(self, cluster: StormCluster, seed: int) -> None:
        """Make the nemesis; nothing is done yet."""
        self.faults: list[Fault] = []
        self._cluster = cluster
        self._rng = random.Random(seed)  # noqa: S311  # no secret
        self._healing: list[Future[None]] = []
        # Its threads stay: the kernel ends a server together with the thread that has started it (pdeathsig).
        self._threads = ThreadPoolExecutor(_AT_ONCE)
        self._blows: list[tuple[float, str, Callable[[str], None]]] = [
            (6, "kill_worker", lambda kind: self._kill(kind, self._rng.choice(cluster.workers))),
            (4, "freeze_worker", lambda kind: self._freeze(kind, self._busy_worker(), _WORKER_FROZEN_S)),
            (6, "kill_trainer", lambda kind: self._trainer(kind, signal.SIGKILL)),
            (3, "freeze_trainer", lambda kind: self._trainer(kind, signal.SIGSTOP)),
            (3, "kill_api", lambda kind: self._kill(kind, cluster.api)),
            (2, "freeze_api", lambda kind: self._freeze(kind, cluster.api)),
            (2, "kill_sweep", lambda kind: self._kill(kind, self._rng.choice(cluster.sweeps))),
            (2, "freeze_sweep", lambda kind: self._freeze(kind, self._rng.choice(cluster.sweeps))),
            (2, "kill_redis", lambda kind: self._redis(kind, self._down_for_a_while)),
            (1, "freeze_redis", lambda kind: self._redis(kind, self._frozen_for_a_while)),
            (2, "flush_redis", lambda kind: self._redis(kind, cluster.redis.flush)),
            (1, "restore_redis", lambda kind: self._redis(kind, lambda: cluster.redis.restore(self._snapshot))),
            (1, "kill_postgres", self._postgres),
        ]
        self._snapshot = cluster.redis.snapshot()
        self._servers = threading.Lock()

    @property
    def counts(self) -> dict[str, int]:
        """Faults by kind."""
        return dict(sorted(Counter(fault.kind for fault in self.faults).items()))

    def strike(self) -> None:
        """Do one fault."""
        weights = [weight for weight, _, _ in self._blows]
        _, kind, blow = self._rng.choices(self._blows, weights)[0]
        blow(kind)

    def heal(self) -> None:
        """Wait until nothing is frozen or down any more."""
        for healed in self._healing:
            healed.result()

    def _note(self, kind: str, pid: int, lasts_s: float = 0.0) -> None:
        now = time.time()
        self.faults.append(Fault(kind, pid, now, now + lasts_s))

    def _kill(self, kind: str, role: Role) -> None:
        self._note(kind, role.signal(signal.SIGKILL))

    def _busy_worker(self) -> Role:
        """Return a worker that trains: another has nothing that it could write too late."""
        return self._rng.choice(self._cluster.busy_workers() or self._cluster.workers)

    def _freeze(self, kind: str, role: Role, between_s: tuple[float, float] = (0.5, _LONGEST_S)) -> None:
        lasts_s = self._rng.uniform(*between_s)
        pid = role.signal(signal.SIGSTOP)
        self._note(kind, pid, lasts_s)
        self._later(lasts_s, lambda: _send(pid, signal.SIGCONT))

    def _trainer(self, kind: str, number: signal.Signals) -> None:
        running = self._cluster.trainers()
        if not running:
            return
        pid, lasts_s = self._rng.choice(running), self._rng.uniform(0.2, _LONGEST_S)
        _send(pid, number)
        self._note(kind, pid, lasts_s if number == signal.SIGSTOP else 0.0)
        if number == signal.SIGSTOP:
            self._later(lasts_s, lambda: _send(pid, signal.SIGCONT))

    def _redis(self, kind: str, act: Callable[[], object]) -> None:
        if self._servers.acquire(blocking=False):  # one fault of a server at a time
            self._note(kind, 0)
            self._later(0.0, lambda: self._released(act))

    def _postgres(self, kind: str) -> None:
        if self._servers.acquire(blocking=False):
            lasts_s = self._rng.uniform(0.0, LEASE_S)
            self._note(kind, 0, lasts_s + LEASE_S)
            self._cluster.postgres.stop(signal.SIGKILL)
            self._later(lasts_s, lambda: self._released(self._cluster.postgres.start))

    def _released(self, act: Callable[[], object]) -> None:
        try:
            act()
        finally:
            self._servers.release()

    def _down_for_a_while(self) -> None:
        self._cluster.redis.stop(signal.SIGKILL)
        time.sleep(self._rng.uniform(0.0, _LONGEST_S))
        self._cluster.redis.start()

    def _frozen_for_a_while(self) -> None:
        self._cluster.redis.freeze()
        time.sleep(self._rng.uniform(0.0, _LONGEST_S))
        self._cluster.redis.freeze(signal.SIGCONT)

    def _later(self, delay_s: float, act: Callable[[], object]) -> None:
        def wait_and_act() -> None:
            time.sleep(delay_s)
            act()

        self._healing.append(self._threads.submit(wait_and_act))


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
