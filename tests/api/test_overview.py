"""The dashboard's first page: what is at work, what waits, what came of the last jobs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import update
from starlette.testclient import TestClient

from api.deps import Services
from api.jobs.models import Job
from api.work.gpu_uses import lately_told, tell
from api.work.models import GpuUse


def test_a_newcomer_reads_what_to_do_first(browser: TestClient) -> None:
    assert "Upload a data set" in browser.get("/").text


def test_jobs_stand_where_they_are_with_what_failed_and_why(
    browser: TestClient, services: Services, add_job: Callable[..., dict[str, Any]], add_result: Callable[..., str]
) -> None:
    waits, runs, fails = (add_job(suffix=name)["id"] for name in ("waits", "runs", "fails"))
    with services.database.write() as session:
        running = {"status": "running", "phase": "training", "step": 75, "steps_per_second": 2.5}
        session.execute(update(Job).where(Job.id == runs).values(running))
        failed = {"status": "failed", "error_code": "out_of_memory", "error_message": "It took <b>too</b> much."}
        session.execute(update(Job).where(Job.id == fails).values(failed))
    add_result(runs, "sample", b"png", step=0, filename="0.png")
    newest = add_result(runs, "sample", b"png", step=50, filename="50.png")
    shown = browser.get("/").text
    assert f'<img src="./files/{newest}" alt="Sample images of runs at step 50">' in shown
    at_work, waiting, over = (shown.index(f'id="{part}"') for part in ("at-work", "waiting", "over"))
    assert at_work < shown.index(f'jobs/{runs}"') < waiting < shown.index(f'jobs/{waits}"') < over
    assert "75 of 300 steps" in shown
    assert re.search(r"about 1 min (30|29) s left", shown)
    assert "number 1 of yours in the queue" in shown
    assert over < shown.index("It took &lt;b&gt;too&lt;/b&gt; much.")


def test_nobody_sees_the_jobs_of_others(
    browser: TestClient, stranger: dict[str, str], add_job: Callable[..., dict[str, Any]]
) -> None:
    job = add_job()
    browser.post("/login", data={"key": stranger["authorization"].removeprefix("Bearer ")})
    shown = browser.get("/").text
    assert "Overview" in shown
    assert job["id"] not in shown


def use(gpu: str, **told: Any) -> GpuUse:
    memory = {"memory_used": 12 << 30, "memory_total": 80 << 30}
    return GpuUse(
        worker_id="w", gpu=gpu, name="H200 <NVL>", **{**memory, "utilization": 0.97, "temperature": 54.0, **told}
    )


def test_gpus_are_shown_with_memory_use_and_temperature_while_their_worker_tells(
    browser: TestClient, services: Services
) -> None:
    with services.database.write() as session:
        tell(session, "w", [use("0"), use("1", utilization=None, temperature=None)])
    shown = " ".join(browser.get("/").text.split())
    assert "H200 &lt;NVL&gt;" in shown
    assert "<span>12.0 GiB of 80.0 GiB · 97 % used · 54 °C</span>" in shown
    assert "<span>12.0 GiB of 80.0 GiB</span>" in shown
    with services.database.write() as session:
        tell(session, "w", [use("0")])
        assert [found.gpu for found in lately_told(session)] == ["0"], "what was told before is gone"
        session.execute(update(GpuUse).values(seen_at=GpuUse.seen_at - 61))
    assert "H200" not in browser.get("/").text, "its worker is silent"
