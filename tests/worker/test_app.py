"""Celery's side of a worker, as `celery -A worker.app worker --pool=threads` starts and ends it: by its signals."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
from celery import signals

Bench = Any  # the class of conftest.py


@pytest.fixture
def app(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module as a process of its own imports it, with the settings in the environment."""
    monkeypatch.setenv("DIFFTUNE_DATA_DIR", str(bench.settings.data_dir))
    monkeypatch.delitem(sys.modules, "worker.app", raising=False)
    level = logging.getLogger("celery").level
    module = import_module("worker.app")
    yield module
    logging.getLogger("celery").setLevel(level)
    for name in ("worker_init", "worker_shutting_down", "worker_shutdown", "setup_logging"):
        signal = getattr(signals, name)
        signal.receivers = [receiver for receiver in signal.receivers if not _is_of(module, receiver)]
    del sys.modules["worker.app"]


def _is_of(module: ModuleType, receiver: Any) -> bool:
    found = receiver[1]() if hasattr(receiver[1], "__self__") or callable(receiver[1]) else receiver[1]
    return getattr(found, "__module__", None) == module.__name__


def slots() -> list[str]:
    return [thread.name for thread in threading.enumerate() if " slot " in thread.name]


def test_slots_work_from_its_start_to_the_end_of_what_it_holds(app: ModuleType, bench: Bench) -> None:
    before = slots()
    signals.worker_init.send(sender=None)
    assert len(slots()) > len(before)
    dataset_id = bench.dataset({"steps": 1}, ready=False)
    bench.wait(lambda: bench.reasons(dataset_id) != [])
    signals.worker_shutting_down.send(sender=None)
    signals.worker_shutdown.send(sender=None)
    assert slots() == before
    assert app.started_worker().draining


def test_where_celery_breaks_down_by_itself_the_slots_work_on(app: ModuleType, bench: Bench) -> None:
    signals.worker_init.send(sender=None)
    signals.worker_shutdown.send(sender=None)
    dataset_id = bench.dataset({"steps": 1}, ready=False)
    bench.wait(lambda: bench.reasons(dataset_id) != [])
    app.started_worker().drain()
    app.started_worker().join()


def test_celery_keeps_logging_as_it_was_and_says_only_what_matters(app: ModuleType) -> None:
    handlers = list(logging.getLogger().handlers)
    signals.setup_logging.send(sender=None)
    assert logging.getLogger("celery").level == logging.WARNING
    assert logging.getLogger().handlers == handlers
    del app
