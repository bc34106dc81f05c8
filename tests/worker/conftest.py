from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import select

from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.db import Database
from api.ids import new_id
from api.jobs import service as jobs
from api.jobs import stops
from api.jobs.models import Checkpoint, Event, Job, Metric
from api.jobs.service import Submission
from api.jobs.states import FINAL
from api.settings import Settings
from api.storage import open_store
from api.subjects.models import ResultFile
from api.work import service as work
from api.work.models import Attempt, WorkItem
from api.work.states import WorkKind
from difftune_core.config.card import read_card
from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.methods.hyperparameters import TrainingHyperparameters
from difftune_core.config.methods.supervised import Supervised, SupervisedSpec
from difftune_core.config.run import CheckpointConfig, ResourcesConfig
from difftune_core.config.transfer import TransferConfig
from worker.service import Worker

FAKE_TRAINER = Path(__file__).with_name("fake_trainer.py")
T = TypeVar("T")


class Bench:
    """A stack without its processes: database, store, and a trainer that does as its data file says."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database)
        self.store = open_store(settings)
        self.processes: list[subprocess.Popen[bytes]] = []

    def dataset(self, plan: dict[str, Any] | bytes, *, ready: bool = True, tenant: str = "t", **columns: Any) -> str:
        content = plan if isinstance(plan, bytes) else json.dumps(plan).encode()
        id_ = new_id("ds")
        half = len(content) // 2
        keys = [f"uploads/{id_}/{n}" for n in range(2)]
        stored = [self.store.put_stream(k, [c]) for k, c in zip(keys, (content[:half], content[half:]), strict=True)]
        row = Dataset(
            id=id_,
            tenant_id=tenant,
            status=DatasetStatus.READY if ready else DatasetStatus.VALIDATING,
            filename="digits.zip",
            purpose="fine-tune",
            bytes=len(content),
            parts=[{"key": o.key, "bytes": o.bytes} for o in stored],
            sha256=hashlib.sha256(content).hexdigest() if ready else None,
            created_at=time.time(),
            **columns,
        )
        with self.database.write() as session:
            session.add(row)
            if not ready:
                work.enqueue(session, WorkKind.VALIDATE_DATASET, id_, tenant_id="t")
        return id_

    def job(
        self, plan: dict[str, Any] | None = None, *, dataset: str | None = None, tenant: str = "t", priority: int = 0
    ) -> str:
        plan = {"steps": 20, **(plan or {})}
        dataset = dataset or self.dataset(plan, tenant=tenant)
        spec = SupervisedSpec(hyperparameters=TrainingHyperparameters(max_steps=plan["steps"]))
        method = Supervised(type="supervised", supervised=spec)
        judged = EvaluationConfig(every_steps=5, deliver=plan.get("deliver", "last"))
        kept = CheckpointConfig(keep_last=plan.get("keep_last"))
        config = TransferConfig(model="tiny-dit", method=method, evaluation=judged, checkpoints=kept, num_threads=1)
        config = config.model_copy(update={"resources": ResourcesConfig(gpus=plan.get("gpus", 1))})
        with self.database.write() as session:
            return jobs.create(session, tenant, Submission(config, dataset, priority=priority)).id

    def cancel(self, job_id: str) -> None:
        with self.database.write() as session:
            jobs.request_cancel(session, session.get_one(Job, job_id))

    def pause(self, job_id: str) -> None:
        with self.database.write() as session:
            stops.request_pause(session, session.get_one(Job, job_id))

    def resume(self, job_id: str) -> None:
        card = read_card(self.settings.bundled_models / "tiny-dit")
        with self.database.write() as session:
            stops.request_resume(session, session.get_one(Job, job_id), self.store, card)

    def attempts(self, subject_id: str) -> list[Attempt]:
        query = select(Attempt).join(WorkItem, WorkItem.id == Attempt.work_item_id).order_by(Attempt.fence)
        with self.database.read() as session:
            return list(session.scalars(query.where(WorkItem.subject_id == subject_id)))

    def get(self, kind: type[T], id_: str) -> T:
        with self.database.read() as session:
            return session.get_one(kind, id_)

    def status(self, job_id: str) -> str:
        return self.get(Job, job_id).status

    def item(self, subject_id: str) -> WorkItem:
        with self.database.read() as session:
            return session.scalars(select(WorkItem).where(WorkItem.subject_id == subject_id)).one()

    def reasons(self, subject_id: str) -> list[str | None]:
        return [attempt.reason for attempt in self.attempts(subject_id)]

    def steps(self, job_id: str) -> list[int]:
        with self.database.read() as session:
            query = select(Checkpoint.step).where(Checkpoint.job_id == job_id)
            return list(session.scalars(query.order_by(Checkpoint.step)))

    def rows(self, kind: type[Event | Metric | ResultFile | Checkpoint], job_id: str) -> list[Any]:
        with self.database.read() as session:
            of = kind.subject_id if kind is ResultFile else kind.job_id
            return list(session.scalars(select(kind).where(of == job_id)))

    def workspace(self, subject_id: str) -> Path:
        return self.settings.data_dir / "work" / subject_id

    def wait(self, what: Callable[[], T], timeout_s: float = 60.0) -> T:
        deadline = time.monotonic() + timeout_s
        while not (value := what()):
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.03)
        return value

    def wait_final(self, job_id: str, timeout_s: float = 60.0) -> Job:
        self.wait(lambda: self.status(job_id) in FINAL, timeout_s)
        return self.get(Job, job_id)

    def child_pid(self, job_id: str) -> int:
        path = self.workspace(job_id) / "child.json"
        return int(self.wait(lambda: path.exists() and json.loads(path.read_text() or "{}")).get("pid"))

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        worker = Worker(self.settings)
        worker.start()
        try:
            yield worker
        finally:
            worker.drain()
            worker.join()

    def process(self, *role: str) -> subprocess.Popen[bytes]:
        """`python -m worker`, as a stack starts it."""
        root = Path(__file__).parents[2]
        given = self.settings.model_dump(include=self.settings.model_fields_set - {"trainer_command"})
        ours = {f"DIFFTUNE_{name.upper()}": str(value) for name, value in given.items()}
        command = json.dumps(self.settings.trainer_command)
        environment = {**os.environ, **ours, "DIFFTUNE_TRAINER_COMMAND": command, "PYTHONPATH": str(root)}
        log = (self.settings.data_dir / f"worker-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen([sys.executable, "-m", "worker", *role], env=environment, stdout=log, stderr=log)
        log.close()
        self.processes.append(process)
        return process

    def hurry(self) -> None:
        """Leases that end soon: for tests in which one is to be lost."""
        self.settings = self.settings.model_copy(update={"lease_s": 4.0})

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        self.database.close()


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def settings(
    tmp_path: Path,
    migrated: Callable[[Path], None],
    server_settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    for name in [name for name in os.environ if name.startswith("DIFFTUNE_")]:
        monkeypatch.delenv(name)
    migrated(tmp_path)
    return Settings(
        data_dir=tmp_path,
        lease_s=30.0,  # more than a busy machine lets a process wait: here no sweep runs that would give it back
        heartbeat_s=0.2,
        poll_s=0.1,
        sweep_s=0.2,
        stop_grace_s=5.0,
        max_attempts=3,
        retry_delay_s=0.1,
        trainer_command=[sys.executable, str(FAKE_TRAINER)],
        **server_settings,
    )


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    bench = Bench(settings)
    yield bench
    bench.close()


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    return alive
