"""Redis may lose what it likes: messages only say "look"."""

from __future__ import annotations

import time
from typing import Any

import pytest

from api.jobs.models import Job
from api.queue import Doorbell
from tests.servers import RedisServer

Bench = Any  # the class of tests/worker/conftest.py
RUNNING = {"steps": 160, "every": 20, "step_s": 0.02}


@pytest.fixture
def slow_poll(bench: Bench) -> Bench:
    """Workers that would look by themselves too late for these tests, but for the last resort."""
    bench.settings = bench.settings.model_copy(
        update={"poll_s": 30.0, "lease_s": 20.0, "heartbeat_s": 1.0, "gpu_slots": 2}
    )
    return bench


def ring(bench: Bench) -> bool:
    return Doorbell(bench.settings, bench.database).ring()


def test_a_message_wakes_a_worker_at_once(slow_poll: Bench, redis_server: RedisServer) -> None:
    first = slow_poll.job({"steps": 2})
    slow_poll.process()
    assert slow_poll.wait_final(first).status == "succeeded"
    job_id = slow_poll.job({"steps": 2})
    assert ring(slow_poll)
    assert slow_poll.wait_final(job_id, timeout_s=15).status == "succeeded"
    assert slow_poll.item(job_id).rung_at is not None
    assert redis_server.length("difftune") == 0


def test_no_running_job_is_disturbed_and_none_is_lost(bench: Bench, redis_server: RedisServer) -> None:
    """Flushed, down for a while, and fallen back to an old snapshot, while a job runs and others come."""
    bench.settings = bench.settings.model_copy(update={"poll_s": 1.0, "lease_s": 10.0, "gpu_slots": 2})
    assert ring(bench)
    old = redis_server.snapshot()
    running = bench.job(RUNNING)
    bench.process("sweep")
    bench.process()
    bench.wait(lambda: bench.get(Job, running).step > 3)
    others = []

    redis_server.flush()
    others.append(bench.job({"steps": 2}))
    redis_server.stop()
    others.append(bench.job({"steps": 2}))
    assert ring(bench) is False
    time.sleep(1.0)
    redis_server.restore(old)
    others.append(bench.job({"steps": 2}))
    ring(bench)

    for job_id in [*others, running]:
        job = bench.wait_final(job_id)
        assert (job.status, job.recoveries) == ("succeeded", 0)
        assert bench.reasons(job_id) == ["succeeded"]


def test_junk_in_the_queue_is_dropped(slow_poll: Bench, redis_server: RedisServer) -> None:
    pickled = '{"body": "gASVBQAAAAAAAACMAW-ULg==", "content-type": "application/x-python-serialize"'
    for junk in ("no json", "[1]", "{}", pickled + ', "content-encoding": "base64", "properties": {}, "headers": {}}'):
        redis_server.push("difftune", junk)
    slow_poll.process()
    job_id = slow_poll.job({"steps": 2})
    assert ring(slow_poll)
    assert slow_poll.wait_final(job_id, timeout_s=40).status == "succeeded"
