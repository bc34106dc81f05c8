"""The unmodified `openai` package against a real server."""

from __future__ import annotations

import hashlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest
import uvicorn

from api.app import create_app
from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.deps import Services
from api.jobs.models import Checkpoint
from api.jobs.service import dataset_settled
from api.keys import service as keys
from api.settings import Settings


@pytest.fixture
def served(settings: Settings) -> Iterator[tuple[str, Services]]:
    """Address and services of a running server."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        app = create_app(settings.model_copy(update={"port": port}))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        deadline = time.monotonic() + 10
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}/v1", app.state.services
        server.should_exit = True
        thread.join(timeout=10)
        assert not thread.is_alive()


@pytest.fixture
def client(served: tuple[str, Services]) -> Iterator[openai.OpenAI]:
    address, services = served
    with services.database.write() as session:
        _, token = keys.create(session, tenant_id="default", name="sdk")
    with openai.OpenAI(base_url=address, api_key=token, max_retries=0) as made:
        yield made


@pytest.fixture
def settle(served: tuple[str, Services]) -> Callable[[str], None]:
    def end(dataset_id: str) -> None:
        with served[1].database.write() as session:
            dataset = session.get_one(Dataset, dataset_id)
            dataset.set_status(DatasetStatus.READY)
            dataset_settled(session, dataset)

    return end


def test_files(client: openai.OpenAI, settle: Callable[[str], None]) -> None:
    content = b"PK" * 1000
    file = client.files.create(file=("digits.zip", io.BytesIO(content)), purpose="fine-tune")
    assert (file.status, file.bytes, file.filename) == ("uploaded", 2000, "digits.zip")
    settle(file.id)
    assert client.files.retrieve(file.id).status == "processed"
    assert client.files.content(file.id).read() == content
    others = [client.files.create(file=(f"{n}.zip", b"x"), purpose="fine-tune").id for n in range(2)]
    assert [found.id for found in client.files.list(limit=1)] == [*others[::-1], file.id]
    assert client.files.delete(file.id).deleted is True
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.retrieve(file.id)
    assert caught.value.code == "file_not_found"
    assert caught.value.request_id is not None


def test_uploads(client: openai.OpenAI) -> None:
    content = bytes(range(256)) * 1000
    upload = client.uploads.create(
        bytes=len(content), filename="d.zip", mime_type="application/zip", purpose="fine-tune"
    )
    assert upload.status == "pending"
    parts = [
        client.uploads.parts.create(upload.id, data=content[start : start + 100_000]).id
        for start in range(0, len(content), 100_000)
    ]
    done = client.uploads.complete(upload.id, part_ids=parts, md5=hashlib.md5(content).hexdigest())
    assert done.status == "completed"
    assert done.file is not None
    assert client.files.content(done.file.id).read() == content
    other = client.uploads.create(bytes=1, filename="d.zip", mime_type="application/zip", purpose="fine-tune")
    assert client.uploads.cancel(other.id).status == "cancelled"


def test_the_whole_upload_in_one_call(client: openai.OpenAI) -> None:
    content = bytes(range(256)) * 1000
    done = client.uploads.upload_file_chunked(
        file=content, filename="d.zip", bytes=len(content), mime_type="application/zip", purpose="fine-tune",
        part_size=100_000,
    )  # fmt: skip
    assert done.file is not None
    assert client.files.content(done.file.id).read() == content


def test_models(client: openai.OpenAI) -> None:
    (model,) = [model for model in client.models.list() if model.id == "tiny-dit"]
    assert (model.object, model.owned_by) == ("model", "difftune")
    assert client.models.retrieve("tiny-dit") == model


def test_jobs(client: openai.OpenAI, settle: Callable[[str], None], served: tuple[str, Services]) -> None:
    file = client.files.create(file=("digits.zip", b"PK"), purpose="fine-tune")
    method: Any = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": {"tau": 0.5, "max_steps": 30}}}
    job = client.fine_tuning.jobs.create(
        model="tiny-dit", training_file=file.id, validation_file=file.id, method=method, seed=3, suffix="a",
        metadata={"team": "vision"},
    )  # fmt: skip
    assert (job.status, job.seed, job.metadata) == ("validating_files", 3, {"team": "vision"})
    settle(file.id)
    found = client.fine_tuning.jobs.retrieve(job.id)
    assert found.status == "queued"
    assert found.method is not None
    assert found.method.to_dict()["diff_tuning"]["hyperparameters"]["tau"] == 0.5  # type: ignore[index]  # theirs knows no such method
    second = client.fine_tuning.jobs.create(model="tiny-dit", training_file=file.id)
    assert [j.id for j in client.fine_tuning.jobs.list(limit=1)] == [second.id, job.id]
    assert [j.id for j in client.fine_tuning.jobs.list(metadata={"team": "vision"})] == [job.id]
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=1))
    assert [event.message for event in events][-1] == f"Created fine-tuning job: {job.id}"
    assert [event.level for event in events] == ["info", "warn", "info", "info"]  # judged by its training file
    with served[1].database.write() as session:
        row = {"tenant_id": "default", "job_id": job.id, "fence": 1, "files": [], "created_at": 1.0}
        session.add_all(Checkpoint(**row, id=f"ckpt_{n}", step=n, name=f"step-{n}") for n in (10, 20, 30))
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=2))
    assert [(c.step_number, c.metrics.step) for c in checkpoints] == [(30, 30), (20, 20), (10, 10)]
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


def test_errors_reach_the_client_whole(client: openai.OpenAI, settle: Callable[[str], None]) -> None:
    file = client.files.create(file=("digits.zip", b"PK"), purpose="fine-tune")
    settle(file.id)
    method: Any = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": {"tau": -1}}}
    with pytest.raises(openai.UnprocessableEntityError) as invalid:
        client.fine_tuning.jobs.create(model="tiny-dit", training_file=file.id, method=method)
    assert invalid.value.param == "method.diff_tuning.hyperparameters.tau"
    job = client.fine_tuning.jobs.create(model="tiny-dit", training_file=file.id)
    client.fine_tuning.jobs.cancel(job.id)
    asked = 0

    def count(_: httpx2.Request) -> None:
        nonlocal asked
        asked += 1

    patient = client.with_options(max_retries=2)
    patient._client.event_hooks["request"].append(count)
    with pytest.raises(openai.ConflictError) as again:
        patient.fine_tuning.jobs.cancel(job.id)
    assert (again.value.code, asked) == ("job_not_cancellable", 1)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="dft_wrong").models.list()
