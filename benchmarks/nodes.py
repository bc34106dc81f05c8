"""Nodes of a small cluster for benchmarks of the service: one database, one store, a data folder and a cache each."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image, ImageDraw
from sqlalchemy import select

from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.db import Database
from api.ids import new_id
from api.jobs import service as jobs
from api.jobs import stops
from api.jobs.models import Checkpoint, Job, Metric
from api.jobs.service import Submission
from api.settings import Settings
from api.storage import open_store
from api.work.models import Attempt, WorkItem
from difftune_core.config.card import read_card
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from migrations.run import upgrade
from worker.sweep import Sweep

TENANT = "benchmark"
T = TypeVar("T")


class Cluster:
    """Rows and objects that all nodes share, and their worker processes."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        """Migrate the database that `settings` name, by default SQLite in `folder`."""
        (folder / "objects").mkdir(parents=True, exist_ok=True)
        url = settings.pop("database_url", f"sqlite:///{folder / 'rows.sqlite3'}")
        self.folder = folder
        self.settings = Settings(data_dir=folder, database_url=url, **settings)
        upgrade(url)
        self.database = Database(url)
        self.store = open_store(self.settings)
        self.sweep = Sweep(self.settings)
        self.card = read_card(self.settings.bundled_models / "tiny-dit")
        self._workers: dict[str, subprocess.Popen[bytes]] = {}

    def worker(self, node: str, *module: str) -> subprocess.Popen[bytes]:
        """The node's worker, started if it does not run. `module`: in place of `worker`, with its arguments."""
        process = self._workers.get(node)
        if process is not None and process.poll() is None:
            return process
        data_dir = self.folder / node
        data_dir.mkdir(exist_ok=True)
        if not (data_dir / "objects").exists():
            (data_dir / "objects").symlink_to(self.folder / "objects")  # the one store; all else is the node's own
        with (data_dir / "worker.log").open("ab") as log:
            self._workers[node] = subprocess.Popen(
                [sys.executable, "-m", *(module or ("worker",))],
                env=environment_of(self.settings.model_copy(update={"data_dir": data_dir})),
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[1],
            )
        return self._workers[node]

    def end(self, node: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End the node's worker and wait until it has gone."""
        process = self._workers.pop(node, None)
        if process is not None:
            process.send_signal(number)
            process.wait()

    def close(self) -> None:
        """End everything."""
        for node in list(self._workers):
            self.end(node, signal.SIGKILL)
        self.sweep.close()
        self.database.close()

    def dataset(self, archive: bytes) -> str:
        """A data set that was validated."""
        id_ = new_id("ds")
        stored = self.store.put_stream(f"uploads/{id_}/0", [archive])
        row = Dataset(
            id=id_,
            tenant_id=TENANT,
            status=DatasetStatus.READY,
            filename="images.zip",
            purpose="fine-tune",
            bytes=len(archive),
            parts=[{"key": stored.key, "bytes": stored.bytes}],
            sha256=hashlib.sha256(archive).hexdigest(),
            created_at=time.time(),
        )
        with self.database.write() as session:
            session.add(row)
        return id_

    def submit(self, dataset: str, config: dict[str, Any], *, priority: int = 0) -> str:
        """A job on tiny-dit."""
        given = TransferConfig.model_validate({"model": "tiny-dit", **config})
        resolved = resolve(given, self.card, num_threads=1)
        with self.database.write() as session:
            asked = Submission(resolved, dataset, priority=priority, base_digest=self.card.digest)
            return jobs.create(session, TENANT, asked).id

    def pause(self, job_id: str) -> None:
        """Do as `POST /v1/fine_tuning/jobs/{id}/pause`."""
        with self.database.write() as session:
            stops.request_pause(session, session.get_one(Job, job_id))

    def resume(self, job_id: str) -> None:
        """Do as `POST /v1/fine_tuning/jobs/{id}/resume`."""
        with self.database.write() as session:
            stops.request_resume(session, session.get_one(Job, job_id), self.store, self.card)

    def job(self, job_id: str) -> Job:
        """The job's row."""
        with self.database.read() as session:
            return session.get_one(Job, job_id)

    def is_judged(self, job_id: str, step: int) -> bool:
        """Return whether the figures of the evaluation at that step are there."""
        with self.database.read() as session:
            return session.get(Metric, (job_id, "eval_l2_from_base", step)) is not None

    def attempts(self, job_id: str) -> list[Attempt]:
        """Attempts, oldest first."""
        query = select(Attempt).join(WorkItem, WorkItem.id == Attempt.work_item_id)
        with self.database.read() as session:
            return list(session.scalars(query.where(WorkItem.subject_id == job_id).order_by(Attempt.fence)))

    def digest(self, job_id: str, names: Sequence[str]) -> str:
        """sha256 over files of the job's last checkpoint, as the store has them."""
        query = select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.step.desc()).limit(1)
        with self.database.read() as session:
            keys = {file["name"]: file["key"] for file in session.scalars(query).one().files}
        digest = hashlib.sha256()
        for name in names:
            for chunk in self.store.read(keys[name]):
                digest.update(chunk)
        return digest.hexdigest()

    def wait(self, what: Callable[[], T | None], timeout_s: float = 300.0) -> T:
        """Sweep, as a cluster does, until something is true."""
        deadline, swept_at = time.monotonic() + timeout_s, 0.0
        while not (found := what()):
            if time.monotonic() > deadline:
                raise TimeoutError("waited too long")
            if time.monotonic() - swept_at > self.settings.sweep_s:
                self.sweep.once()
                swept_at = time.monotonic()
            time.sleep(0.02)
        return found


def environment_of(settings: Settings) -> dict[str, str]:
    """A process's environment with these settings and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DIFFTUNE_")}
    given = settings.model_dump(mode="json", include=settings.model_fields_set)
    ours = {f"DIFFTUNE_{name.upper()}": v if isinstance(v, str) else json.dumps(v) for name, v in given.items()}
    return {**inherited, **ours}


def images(classes: int = 2, each: int = 8) -> bytes:
    """A small archive of pictures that differ by class and number."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for label in range(classes):
            for number in range(each):
                image = Image.new("RGB", (32, 32), (number * 23 % 256, 0, label * 90))
                ImageDraw.Draw(image).rectangle((label * 8, 4, label * 8 + 6, 28 - number), fill=(255, 255, 0))
                png = io.BytesIO()
                image.save(png, "PNG")
                archive.writestr(f"class-{label}/{number}.png", png.getvalue())
    return buffer.getvalue()
