"""A worker process: one thread a slot, each claiming and working; told when to look, when to end."""

from __future__ import annotations

import math
import os
import secrets
import shutil
import socket
import sys
import threading
import time
from functools import cached_property
from pathlib import Path

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.db import Database
from api.jobs.models import Job
from api.jobs.states import FINAL
from api.queue import Doorbell
from api.settings import Settings
from api.storage import open_store
from api.work import repository
from api.work.models import WorkItem
from api.work.states import Slot, WorkKind, WorkState
from difftune_core.files import outdated_caches
from worker.alive import show_life
from worker.eviction import evict
from worker.gpus import CPU, Gpus, gpus_of
from worker.run import Run, Tools
from worker.slots import Slots
from worker.supervise import supervise, take
from worker.telling import Teller
from worker.workspace import INCOMING

_TRAINER_COMMAND = (sys.executable, "-m", "difftune_core")
_LOGS_KEPT_S = 14 * 86_400.0
_DOWNLOADS_KEPT_S = 86_400.0
_PAUSE_AFTER_ERROR_S = 2.0
_OUTDATED_KEPT_S = 86_400.0  # a worker of an earlier version may still be at work on this node
_SILENT_POLLS = 15.0
_PAUSE_AFTER_FAULT_S = 10.0
_OFFER_EVERY_S = 30.0
_FORGET_EVERY_S = 3600.0
log = structlog.get_logger(__name__)


class Worker:
    """Offers the settings' slots. The doorbell only makes it look earlier than it would by itself."""

    def __init__(self, settings: Settings) -> None:
        """Make a worker; nothing runs yet."""
        database = Database(settings.database, lease_s=settings.lease_s)
        trainer_command = tuple(settings.trainer_command) or _TRAINER_COMMAND
        self.tools = Tools(settings, database, open_store(settings), trainer_command)
        self.worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._doorbell = Doorbell(settings, database)
        self._news = threading.Condition()
        self._rings = 0
        self._runs: dict[tuple[Slot, int], Run] = {}
        self._looked_at: dict[tuple[Slot, int], float] = {}
        self._ended = threading.Event()
        self._gpus = gpus_of(settings)
        self._slots = {Slot.GPU: Slots(self._gpus), Slot.CPU: Slots(Gpus((), 1))}
        self._offered_at = -math.inf
        self._forgot_at = time.monotonic()
        self._evicting = threading.Lock()
        wanted = {Slot.GPU: self._gpus.slots, Slot.CPU: settings.cpu_slots}
        self._threads = [
            threading.Thread(target=self._work, args=(slot, number), name=f"{slot} slot {number}", daemon=True)
            for slot, count in wanted.items()
            for number in range(count)
        ]

    def start(self) -> None:
        """Begin to claim."""
        _forget_finished(self.tools)
        self._evict()
        show_life(self.tools.settings.alive_file, self._gets_on, self._ended)
        Teller(self.worker_id, self._gpus, self._is_busy, self._offer).begin(self.tools.database, self._ended)
        for thread in self._threads:
            thread.start()

    def look(self) -> None:
        """Look for work, and for requests to running work."""
        with self._news:
            self._rings += 1
            self._news.notify_all()
        for run in list(self._runs.values()):
            run.heartbeat.nudge()

    def drain(self) -> None:
        """Claim no more; running children save and end, their jobs go back to the queue."""
        self.tools.drain.set()
        self.look()

    def join(self) -> None:
        """Wait until every run has been settled."""
        for thread in self._threads:
            thread.join()
        self.tools.warm.end()
        self._ended.set()
        self.tools.database.close()

    @property
    def draining(self) -> bool:
        """Whether the worker is to end."""
        return self.tools.drain.is_set()

    def _work(self, slot: Slot, number: int) -> None:
        while not self.draining:
            heard = self._rings
            try:
                worked = self._work_once(slot, number)
            except Exception:
                log.exception("slot_failed")
                self.tools.drain.wait(_PAUSE_AFTER_ERROR_S)
                continue
            if not worked:
                self.tools.warm.end(self.tools.settings.warm_model_s)
                self._wait_for_news(heard)
            if time.monotonic() - self._forgot_at > _FORGET_EVERY_S:
                self._forgot_at = time.monotonic()
                _forget_logs(self.tools.settings.data_dir)

    def _work_once(self, slot: Slot, number: int) -> bool:
        self._looked_at[slot, number] = time.monotonic()
        if slot == Slot.GPU and not self._is_well(number):
            return False
        slots = self._slots[slot]
        with slots.claiming(number) as free:
            taken = take(self.tools, slot, self.worker_id, free=len(free), total=slots.at_once) if free else None
            used = slots.take(free[: taken[0].slots]) if taken else []
        self._looked_at[slot, number] = time.monotonic()
        if taken is None:
            return False
        lease, since = taken
        if slot == Slot.GPU and lease.kind != WorkKind.GENERATE:
            self.tools.warm.end()  # jobs come first: models that only wait give their memory
        structlog.contextvars.bind_contextvars(subject=lease.subject_id, attempt=lease.fence)
        try:
            place = slots.gpus.place_of(used)
            supervise(self.tools, lease, since, place=place, on_run=lambda run: self._note(slot, number, run))
        finally:
            slots.give_back(used)
            self._runs.pop((slot, number), None)
            structlog.contextvars.clear_contextvars()
        self._evict()
        self._doorbell.ring()  # a settled data set lets jobs go on; a drained job wants another worker
        self.look()
        return True

    def _is_well(self, number: int) -> bool:
        """Return whether the slot's GPU can take a job now, alone or with others; offer the slots now and then."""
        slots = self._slots[Slot.GPU]
        if slots.is_taken(number):
            return False
        is_ours = self.tools.warm.holds(self._gpus.of_slot(number))  # it was well when that process was started
        fault = None if is_ours else self._gpus.fault_of(number)
        slots.tell(number, ready=fault is None)
        if fault is not None:
            log.error("gpu_takes_no_job", fault=fault)
            self.tools.drain.wait(_PAUSE_AFTER_FAULT_S)
            return False
        if time.monotonic() - self._offered_at > _OFFER_EVERY_S:
            self._offered_at = time.monotonic()
            with self.tools.database.write() as session:
                self._offer(session)
        return True

    def _offer(self, session: Session) -> None:
        device, memory = self._device
        offered = self._slots[Slot.GPU].at_once
        repository.offer(session, self.worker_id, gpu_slots=offered, device=device, device_memory=memory)

    def _is_busy(self) -> bool:
        """Return whether a GPU slot has work."""
        return any(map(self._slots[Slot.GPU].is_taken, range(self._gpus.slots)))

    def _evict(self) -> None:
        """Keep the node's cache within its budget; one slot's thread does so for all."""
        settings = self.tools.settings
        if self._evicting.acquire(blocking=False):
            try:
                evict(settings.data_dir / "cache", settings.cache_bytes)
            finally:
                self._evicting.release()

    @cached_property
    def _device(self) -> tuple[str, int | None]:
        """Name of the device that the worker trains on, and the bytes of memory that a training may have."""
        name, memory = self._gpus.described()
        allowed = self.tools.settings.trainer_memory_bytes if name == CPU else None
        return name, memory if memory is None or allowed is None else min(memory, allowed)

    def _note(self, slot: Slot, number: int, run: Run) -> None:
        self._runs[slot, number] = run

    def _gets_on(self) -> bool:
        """Return whether every slot has asked the database for work lately, or holds the lease of its work."""
        since = time.monotonic() - _SILENT_POLLS * self.tools.settings.poll_s
        runs = dict(self._runs)
        return all(
            looked_at > since or (at in runs and not runs[at].heartbeat.lost)
            for at, looked_at in dict(self._looked_at).items()
        )

    def _wait_for_news(self, heard: int) -> None:
        with self._news:
            self._news.wait_for(lambda: self._rings != heard or self.draining, self.tools.settings.poll_s)


def _forget_finished(tools: Tools) -> None:
    """Remove what nobody needs: workspaces of what has ended elsewhere, half downloads, caches of before, old logs."""
    data_dir = tools.settings.data_dir
    for path in (data_dir / "work").glob("*_*"):
        if _has_ended(tools.database, path.name):
            shutil.rmtree(path, ignore_errors=True)
    for path in (data_dir / "cache").glob(f"*/{INCOMING}*"):
        if _age_s(path) > _DOWNLOADS_KEPT_S:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    for folder in outdated_caches(data_dir / "cache"):
        if all(_age_s(path) > _OUTDATED_KEPT_S for path in (folder, *folder.iterdir())):
            shutil.rmtree(folder, ignore_errors=True)
    _forget_logs(data_dir)


def _forget_logs(data_dir: Path) -> None:
    for path in (data_dir / "logs" / "runs").glob("*.log"):
        if _age_s(path) > _LOGS_KEPT_S:
            path.unlink(missing_ok=True)


def _has_ended(database: Database, subject_id: str) -> bool:
    """Return whether nobody works or will work on the subject; a paused job may go on."""
    waiting = select(WorkItem.id).where(WorkItem.subject_id == subject_id, WorkItem.state != WorkState.DONE)
    with database.read() as session:
        job = session.get(Job, subject_id)
        return session.scalar(waiting.limit(1)) is None and (job is None or job.status in FINAL)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
