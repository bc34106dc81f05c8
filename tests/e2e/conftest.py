from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from PIL import Image, ImageDraw

from cli.demo.stack import DemoStack
from difftune import service as client

QUICK = {
    "max_steps": 30,
    "batch_size": 16,
    "checkpoint_every_steps": 10,
    "log_every_steps": 5,
    "retention_set": {"num_images": 16, "num_inference_steps": 3},
}
EVALUATION = {"num_images": 16, "num_inference_steps": 3, "every_steps": None}


def png(label: int, number: int) -> bytes:
    """A picture that differs by class and number."""
    image = Image.new("RGB", (20, 24), (number * 7 % 256, 0, 0))
    ImageDraw.Draw(image).rectangle((label * 3, 2, label * 3 + 4, 20), fill=(255, 255, 255 - number))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    """A zip archive in memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def image_zip(classes: int = 3, each: int = 8, first: int = 0) -> bytes:
    """A valid data set."""
    return zip_of({f"class-{c}/{i}.png": png(c, i) for c in range(classes) for i in range(first, first + each)})


class Service:
    """A running embedded stack and the two ways to talk to it."""

    def __init__(self, stack: DemoStack, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.client = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key)
        self.http = httpx2.Client(base_url=stack.url, headers={"Authorization": f"Bearer {stack.key}"}, timeout=30)

    def events(self, job_id: str) -> Iterator[dict[str, Any]]:
        with client.Service(str(self.http.base_url), self.client.api_key) as asked:
            yield from asked.events(job_id)

    def upload(self, data: bytes, name: str = "images.zip") -> str:
        file = self.client.files.create(file=(name, data), purpose="fine-tune")
        return file.id

    def submit(self, training_file: str, method: str = "diff_tuning", **extra: Any) -> Any:
        quick = {k: v for k, v in QUICK.items() if method == "diff_tuning" or k != "retention_set"}
        hyperparameters = quick | extra.pop("hyperparameters", {})
        body: Any = {"type": method, method: {"hyperparameters": hyperparameters}}
        return self.client.fine_tuning.jobs.create(
            model=extra.pop("model", "tiny-dit"),
            training_file=training_file,
            method=body,
            extra_body={"evaluation": EVALUATION},
            **extra,
        )

    def wait(self, job_id: str, until: Callable[[Any], bool], timeout_s: float = 240) -> Any:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            job = self.client.fine_tuning.jobs.retrieve(job_id)
            if until(job):
                return job
            time.sleep(0.2)
        raise AssertionError(f"{job_id} is still {job.status}: {job.status_details}")

    def wait_file(self, file_id: str, timeout_s: float = 120) -> str:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            status = self.client.files.retrieve(file_id).status
            if status != "uploaded":
                return status
            time.sleep(0.1)
        raise AssertionError(f"{file_id} is still being validated")

    def files_of(self, job_id: str) -> dict[str, bytes]:
        """The result files of a job by the ends of their names."""
        job = self.client.fine_tuning.jobs.retrieve(job_id)
        named = {self.client.files.retrieve(file_id).filename: file_id for file_id in job.result_files}
        return {name.rpartition(".")[2]: self.client.files.content(id_).read() for name, id_ in named.items()}

    def ended(self, path: str, timeout_s: float = 240) -> dict[str, Any]:
        """What is at a path of its own, once it is final."""
        deadline = time.monotonic() + timeout_s
        while (found := self.http.get(path).json())["status"] not in {"succeeded", "failed", "cancelled"}:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found

    def finished(self, job_id: str, timeout_s: float = 240) -> Any:
        return self.wait(job_id, lambda job: job.status in {"succeeded", "failed", "cancelled"}, timeout_s)


@pytest.fixture(scope="package")  # its processes poll: none stays beside the tests that come after
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data_dir = tmp_path_factory.mktemp("stack") / "data"
    with ExitStack() as open_for_the_session:
        with pytest.MonkeyPatch.context() as patch:  # for the stack alone: other tests of this process come between
            patch.setenv("DIFFTUNE_LEASE_S", "4")
            patch.setenv("DIFFTUNE_HEARTBEAT_S", "1")
            patch.setenv("DIFFTUNE_SWEEP_S", "1")
            stack = open_for_the_session.enter_context(DemoStack(data_dir))
        running = Service(stack, data_dir)
        yield running
        running.http.close()
        running.client.close()
