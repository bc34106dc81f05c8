"""The story of one run: claim, prepare, child, publish, settle. Told once, for every kind of work."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from api.storage.cleaning import delete_objects
from api.subjects.kinds import kind_of
from api.subjects.kinds import kinds as known_kinds
from api.subjects.references import owner_of
from api.tracing import current_traceparent, span
from api.work import repository
from api.work.endings import SUCCEEDED, Ending, Settled
from api.work.repository import Lease, LeaseLostError, Wants, lease_of
from api.work.states import Slot
from difftune_core.hooks import Event, SpanEvent
from worker.child import Child
from worker.collect import collect_attempt
from worker.environment import child_environment
from worker.failures import DISK_FULL, of_exception, of_exit
from worker.gpus import Place
from worker.kinds.base import Activity, activity_of
from worker.lease import Heartbeat
from worker.logs import LogShipper
from worker.run import Run, Stopped, Tools
from worker.settle import admit, settle
from worker.telemetry import ATTEMPTS, LEASES_LOST, RunTelemetry
from worker.tracing import attempt_span, note_ending, relay
from worker.watch import Watch
from worker.workspace import LostObjectError, Workspace

_POLL_S = 0.1
_LOG_TAIL_BYTES = 4000
log = structlog.get_logger(__name__)


def take(tools: Tools, slot: Slot, worker_id: str, *, free: int = 1, total: int = 1) -> tuple[Lease, float] | None:
    """Claim the best waiting item for the `free` of a worker's slots; its lease and the monotonic time of the claim."""
    kinds, settings = [kind.name for kind in known_kinds()], tools.settings
    wants = Wants(kinds, slot, free, total, settings.images_patience_s, settings.priority_across_tenants)
    while True:
        since = time.monotonic()
        with tools.database.write() as session:
            patience_s, lease_s = settings.preempt_after_s, settings.lease_s
            if repository.gathers(session, wants, worker_id, lease_s=lease_s, patience_s=patience_s):
                return None
            item = repository.claim(
                session,
                kinds=kinds,
                slot=slot,
                worker_id=worker_id,
                lease_s=lease_s,
                free=free,
                images_patience_s=wants.images_patience_s,
                across_tenants=wants.across_tenants,
            )
            if item is None:
                return None
            if admit(session, item):
                return lease_of(item), since


def supervise(tools: Tools, lease: Lease, since: float, *, place: Place, on_run: Callable[[Run], None]) -> None:
    """Work on a claimed item until its attempt is settled, or until the lease is lost: then nothing is written."""
    settings = tools.settings
    heartbeat = Heartbeat(tools.database, lease, since=since, settings=settings)
    run = Run(tools, lease, heartbeat, Workspace(settings.data_dir, lease.subject_id))
    on_run(run)
    with attempt_span(lease, since=since), heartbeat:
        log.info("claimed", kind=lease.kind)
        activity = activity_of(lease.kind)(run)
        try:
            ending = _ending(run, activity, place)
            log.info("attempt_ended", code=ending.code, message=ending.message)
            note_ending(ending.code)
            ATTEMPTS.labels(lease.kind, ending.code).inc()
            with span("settle"):
                settled = run.insist(lambda: _settle(run, activity, ending))
        except LeaseLostError as error:
            log.warning("lease_lost", error=str(error))
            note_ending("lease_lost")
            LEASES_LOST.labels(lease.kind).inc()
            return
        finally:
            activity.release()
    if settled.over or not activity.goes_on:
        run.workspace.remove()
    if not settled.kept:
        delete_objects(tools.store, [file.key for file in activity.stored])
    if ending.code == DISK_FULL:
        collect_attempt(tools.database, tools.store, lease)


def _ending(run: Run, activity: Activity, place: Place) -> Ending:
    try:
        lock = run.workspace.lock()
        try:
            with span("prepare", orderly=Stopped):
                arguments = activity.prepare()
            if arguments is None:
                return activity.complete(Ending(SUCCEEDED))
            run.check()
            child = _start(run, activity, arguments, place.gpu, lock)
        finally:
            os.close(lock)
            run.let_go()
        return activity.complete(_follow(run, activity, child, place.slot))
    except Stopped:
        return run.stopped(run.request)
    except LeaseLostError:
        raise
    except LostObjectError as error:
        log.exception("object_lost", key=error.key)
        with run.tools.database.read() as session:
            owner = owner_of(session, error.key)
        return Ending(error.code, f"The object {error.key} of {owner} is not in the store any more.")
    except Exception as error:
        log.exception("attempt_broke_off")
        return of_exception(error)


def _start(run: Run, activity: Activity, arguments: list[str], gpu: str | None, lock: int) -> Child:
    folder, settings = run.workspace.folder, run.tools.settings
    child = activity.spawn(
        arguments,
        gpu=gpu,
        environment=child_environment(
            folder,
            num_threads=activity.num_threads,
            gpu=gpu,
            traceparent=current_traceparent(),
            resident_bytes=settings.resident_bytes,
        ),
        folder=folder,
        log=log_file(settings.data_dir, run.lease),
        keep_fds=[lock, *run.held],
    )
    run.workspace.note_child(child.pid)
    activity.begin(child)
    return child


def log_file(data_dir: Path, lease: Lease) -> Path:
    """Return where an attempt's child writes what it prints; kept when the workspace is gone."""
    folder = data_dir / "logs" / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{lease.subject_id}-{lease.fence}.log"


def _follow(run: Run, activity: Activity, child: Child, slot: int) -> Ending:
    """Publish what the child says and prints until it has ended; how it ended."""
    watch, telemetry = Watch(run, child), RunTelemetry(run.lease.kind, slot)
    shipper = LogShipper(run, log_file(run.tools.settings.data_dir, run.lease))
    watch.start()
    try:
        last = None
        while (event := _next_event(child, activity, shipper)) is not None:
            if event != last:  # who says the same again and again gets no further
                run.heartbeat.progressed()
            last = event
            telemetry.heard(event)
            if isinstance(event, SpanEvent):
                relay(event)
            else:
                activity.handle(event)
            activity.idle()
    except BaseException:
        watch.abort()
        raise
    finally:
        watch.join()
        telemetry.close()
    run.heartbeat.check()
    shipper.finish()
    ending = _ending_of(run, child, watch)
    if child.outcome is None and watch.requested is None:
        log.error("child_died", message=ending.message, output=_tail(log_file(run.tools.settings.data_dir, run.lease)))
    return ending


def _next_event(child: Child, activity: Activity, shipper: LogShipper) -> Event | None:
    while True:
        shipper.ship_if_due()
        try:
            return child.events.get(timeout=_POLL_S)
        except queue.Empty:
            activity.idle()


def _ending_of(run: Run, child: Child, watch: Watch) -> Ending:
    outcome = child.outcome
    if outcome is None and watch.fault is not None:
        return watch.fault
    if outcome is None:
        return run.stopped(watch.requested) if watch.requested else of_exit(watch.status, kind_of(run.lease.kind).child)
    if outcome.code in {"stopped", "paused"}:
        return run.stopped(watch.requested, outcome.message)
    return Ending(outcome.code, outcome.message, outcome.param)


def _settle(run: Run, activity: Activity, ending: Ending) -> Settled:
    settings, stored, found = run.tools.settings, activity.stored, activity.found
    with run.unit() as (session, item):
        return settle(session, item, ending, settings=settings, files=stored, found=found)


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
    except OSError:
        return ""
