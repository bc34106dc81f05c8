"""`python -m worker` works; `python -m worker sweep` recovers what was left lying. SIGTERM ends either in order.

`python -m worker recover`, before any worker of a locked data folder starts, ends what the last stack held.
"""

from __future__ import annotations

import argparse
import logging
import signal
import time
from types import FrameType

import structlog

from api.logging import configure_logging
from api.private import write_privately
from api.tracing import configure_tracing, flush_tracing

_RESTART_S = 2.0
_CELERY = ["--quiet", "worker", "--pool=threads", "--concurrency=1", "--loglevel=WARNING"]
_CELERY += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
log = structlog.get_logger(__name__)


def main() -> None:
    """Run one of the two until a signal asks to end."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("role", nargs="?", choices=["work", "sweep", "recover"], default="work")
    role = parser.parse_args().role
    write_privately()
    configure_logging()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    configure_tracing("difftune-worker" if role == "work" else "difftune-sweep")
    {"work": work, "sweep": sweep, "recover": recover}[role]()
    flush_tracing()


def work() -> None:
    """Slots in threads of their own; Celery, which only brings messages, in the main thread."""
    from celery.worker import state

    from api.metrics import serve_metrics
    from worker.app import app, started_worker
    from worker.telemetry import GpuMemory

    worker = started_worker()
    serve_metrics(worker.tools.settings, GpuMemory())

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        """Drain in the moments before Celery has put its own handler into place."""
        state.should_stop = 0  # type: ignore[assignment]  # typed by its first value
        worker.drain()

    log.info("worker_started", worker=worker.worker_id)
    while not worker.draining:
        _on_end(on_signal)
        try:
            app.worker_main(_CELERY)
        except (Exception, SystemExit):  # whatever Celery breaks down with: the slots poll by themselves
            log.exception("celery_broke_down")
        _on_end(on_signal)
        worker.tools.drain.wait(_RESTART_S)
    worker.join()
    log.info("worker_ended", worker=worker.worker_id)


def sweep() -> None:
    """Sweep at the settings' interval."""
    from api.metrics import serve_metrics
    from api.settings import Settings
    from worker.alive import touch
    from worker.sweep import Sweep

    sweeper = Sweep(Settings())
    serve_metrics(sweeper.settings)
    ended = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal ended
        ended = True

    _on_end(on_signal)
    log.info("sweep_started")
    while not ended:
        if sweeper.once():
            touch(sweeper.settings.alive_file)
        until = time.monotonic() + sweeper.settings.sweep_s
        while not ended and time.monotonic() < until:
            time.sleep(min(0.2, sweeper.settings.sweep_s))
    sweeper.close()


def recover() -> None:
    """Put back into the queue what a stack held that was killed."""
    from api.settings import Settings
    from worker.sweep import Sweep

    sweeper = Sweep(Settings())
    sweeper.recover_all()
    sweeper.close()


def _on_end(handler: signal._HANDLER) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


if __name__ == "__main__":
    main()
