"""The whole stack on PostgreSQL and Redis: Celery brings the messages, the real tiny model is tuned."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from cli.demo.stack import DemoStack
from tests.e2e.conftest import Service, image_zip
from tests.e2e.test_kills import gone, trainers
from tests.servers import PostgresServer, RedisServer


@pytest.fixture
def service(redis: str, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data_dir = tmp_path_factory.mktemp("stack") / "data"
    given = {"DATABASE_URL": postgres, "BROKER_URL": redis, "LEASE_S": "6", "HEARTBEAT_S": "1", "SWEEP_S": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(f"DIFFTUNE_{name}", value)
        with DemoStack(data_dir) as stack:
            running = Service(stack, data_dir)
            yield running
            running.http.close()
            running.client.close()


def test_a_job_survives_the_deaths_of_trainer_worker_and_both_servers(
    service: Service, postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    job = service.submit(service.upload(image_zip()), hyperparameters={"max_steps": 120, "checkpoint_every_steps": 20})
    service.wait(job.id, lambda j: j.status_details["step"] >= 25)
    (trainer,) = trainers(service.data_dir)
    os.kill(trainer, signal.SIGKILL)
    service.wait(job.id, lambda j: j.recoveries >= 1 and j.status_details["step"] >= 45)

    redis_server.stop(signal.SIGKILL)
    postgres_server.stop(signal.SIGKILL)
    postgres_server.start()
    redis_server.start()
    service.wait(job.id, lambda j: j.status_details["step"] >= 65)

    old = trainers(service.data_dir)
    worker = json.loads((service.data_dir / "stack.json").read_text())["pids"]["worker"]
    os.kill(worker, signal.SIGKILL)
    assert gone([worker, *old]), "the trainer of a dead worker ends by itself"

    finished = service.finished(job.id, timeout_s=300)
    assert finished.status == "succeeded", finished.error
    steps = [c.step_number for c in service.client.fine_tuning.jobs.checkpoints.list(job.id, limit=50)]
    assert sorted(steps) == list(range(20, 121, 20))
    assert not (service.data_dir / "difftune.sqlite3").exists()
    assert not (service.data_dir / "broker").exists()
