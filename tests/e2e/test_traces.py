"""One trace from the request that submits a job to the phases of its trainer, through the embedded stack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.demo.stack import DemoStack
from tests.collector import Collector, Received
from tests.e2e.conftest import Service, image_zip

pytestmark = pytest.mark.long
TRACE, OURS = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Service]:
    data_dir = tmp_path_factory.mktemp("traced") / "data"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in collector.environment.items():
            patch.setenv(name, value)
        with DemoStack(data_dir) as stack:
            running = Service(stack, data_dir)
            yield running
            running.http.close()
            running.client.close()


def logged(path: Path, event: str) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def only(found: list[Received]) -> Received:
    (span,) = found
    return span


def test_one_trace_from_the_request_to_the_trainer(traced: Service, collector: Collector) -> None:
    """Submitted by a traced client, and while its data set is still being validated in a trace of its own."""
    file_id = traced.upload(image_zip(), name="of-a-secret-customer.zip")
    small = {"max_steps": 6, "checkpoint_every_steps": 6, "log_every_steps": 3}
    ours = {"traceparent": f"00-{TRACE}-{OURS}-01"}
    job = traced.submit(file_id, hyperparameters=small, extra_headers=ours)
    assert job.status == "validating_files"
    finished = traced.finished(job.id)
    assert finished.status == "succeeded", finished.error
    link = traced.http.get(f"/v1/checkpoints/{finished.fine_tuned_model}/download", params={"redirect": "false"})
    assert traced.http.get(link.json()["url"]).status_code == 200
    collector.wait(lambda: bool(collector.named("attempt train")))

    request = only(collector.named("POST /v1/fine_tuning/jobs"))
    attempt = only(collector.named("attempt train"))
    trainer = only(collector.named("trainer train"))
    assert [s.service for s in (request, attempt, trainer)] == ["difftune-api", "difftune-worker", "difftune-trainer"]
    assert {s.trace_id for s in (request, attempt, trainer)} == {TRACE}
    assert (request.parent_id, attempt.parent_id, trainer.parent_id) == (OURS, request.span_id, attempt.span_id)
    assert attempt.attributes["difftune.subject.id"] == job.id
    assert attempt.start_ns <= trainer.start_ns <= trainer.end_ns <= attempt.end_ns

    phases = sorted((s for s in collector.spans if s.parent_id == trainer.span_id), key=lambda s: s.start_ns)
    names = [phase.name for phase in phases]
    order = ["starting", "loading_model", "building_retention_set", "caching_latents", "training"]
    assert names[:5] == order
    assert {"evaluating", "exporting"} <= set(names)
    training = phases[4]
    assert training.attributes["difftune.progress.done"] == 6
    assert {phase.service for phase in phases} == {"difftune-trainer"}

    validation = only(collector.named("attempt validate_dataset"))
    assert validation.trace_id == only(collector.named("POST /v1/files")).trace_id != TRACE
    _tells_no_secrets(traced, collector, link.json()["url"])


def _tells_no_secrets(traced: Service, collector: Collector, link: str) -> None:
    key = (traced.data_dir / "api-key").read_text(encoding="utf-8").strip()
    for secret in (key, link.rpartition("signature=")[2], "secret-customer", "class-0", str(traced.data_dir)):
        assert secret
        assert secret.encode() not in collector.raw
    paths = {span.attributes.get("url.path", "") for span in collector.spans}
    assert not [path for path in paths if path.startswith(("/v1/objects/", "/readyz", "/healthz"))]


def test_log_lines_name_their_trace(traced: Service, collector: Collector) -> None:
    assert collector.named("attempt train"), "the test before has left them"
    logs = traced.data_dir / "logs"
    submissions = [
        line
        for line in logged(logs / "api.log", "request")
        if (line["method"], line["path"]) == ("POST", "/v1/fine_tuning/jobs")
    ]
    assert [line["trace_id"] for line in submissions] == [TRACE]
    ended = [line["trace_id"] for line in logged(logs / "worker.log", "attempt_ended")]
    assert ended.count(TRACE) == 1
    assert len(ended) == len(set(ended)) == 2
    assert all("trace_id" not in line for line in logged(logs / "worker.log", "worker_started"))
