from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select
from structlog.testing import capture_logs

from api.datasets.models import Dataset
from api.logs.models import LogChunk
from worker.supervise import _tail

Bench = Any  # the class of conftest.py
KEY = "dft_01ARZ3NDEKTSV4RRFFQ69G5FAV_0123456789abcdef0123456789abcdef01234567_89abcdef"


def printed(bench: Bench, job_id: str) -> str:
    query = select(LogChunk).where(LogChunk.job_id == job_id).order_by(LogChunk.attempt, LogChunk.number)
    with bench.database.read() as session:
        return "".join(chunk.text for chunk in session.scalars(query))


def test_what_a_trainer_prints_is_kept_without_secrets_and_folders(bench: Bench) -> None:
    said = f"in {{folder}}/out with {KEY}\npostgresql://difftune:hunter2@db:5432/x password=correcthorse\nlast\x00 word"
    with bench.worker():
        job_id = bench.job({"steps": 3, "print_at": 2, "print": said})
        assert bench.wait_final(job_id).status == "succeeded"
    assert (
        printed(bench, job_id) == "in ./out with dft_***\npostgresql://difftune:***@db:5432/x password=***\nlast word"
    )


def test_it_is_there_while_the_trainer_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.logs._INTERVAL_S", 0.1)
    with bench.worker():
        job_id = bench.job({"steps": 5000, "step_s": 0.02, "every": 10_000, "print_at": 1, "print": "a line\nhalf a"})
        bench.wait(lambda: printed(bench, job_id) == "a line\n")
        bench.cancel(job_id)
        bench.wait_final(job_id)
    assert printed(bench, job_id) == "a line\nhalf a"


def test_of_a_long_log_the_ends_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("HEAD", 200), ("TAIL", 100), ("CHUNK", 64)):
        monkeypatch.setattr(f"worker.logs._{name}_BYTES", size)
    lines = "".join(f"line {number:04d}\n" for number in range(1000))
    with bench.worker():
        job_id = bench.job({"steps": 3, "print_at": 2, "print": lines})
        bench.wait_final(job_id)
    text = printed(bench, job_id)
    assert text.startswith("line 0000\nline 0001\n")
    assert text.endswith("line 0998\nline 0999\n")
    assert "bytes are left out here]" in text
    assert len(text) < 400


def test_a_line_longer_than_a_piece_and_bytes_that_are_no_text_hold_nothing_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("CHUNK_BYTES", 64), ("INTERVAL_S", 0.1)):
        monkeypatch.setattr(f"worker.logs._{name}", value)
    line = "x" * 200
    with bench.worker():
        job_id = bench.job({"steps": 5000, "step_s": 0.02, "every": 10_000, "print_at": 1, "print": line})
        bench.wait(lambda: printed(bench, job_id) == line[: 3 * 64])
        bench.cancel(job_id)
        bench.wait_final(job_id)
    assert printed(bench, job_id) == line


def test_the_end_of_a_log_is_read_whatever_its_bytes_are(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\xff\xfe last words")
    assert _tail(tmp_path / "log").endswith(" last words")
    assert _tail(tmp_path / "none") == ""


def test_what_is_no_job_has_no_log_of_one(bench: Bench) -> None:
    dataset_id = bench.dataset({"print": "a warning of a library\n"}, ready=False)
    with capture_logs() as lines, bench.worker():
        bench.wait(lambda: bench.get(Dataset, dataset_id).status == "ready")
    assert printed(bench, dataset_id) == ""
    assert not [line for line in lines if line["log_level"] not in {"info", "debug"}]


def test_attempts_are_counted_and_phases_measured(bench: Bench) -> None:
    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    def seen() -> list[float]:
        attempts = [value("difftune_attempts_total", kind="train", outcome=code) for code in ("killed", "succeeded")]
        return [*attempts, value("difftune_phase_seconds_count", kind="train", phase="training")]

    before = seen()
    with bench.worker():
        assert bench.wait_final(bench.job({"steps": 10, "kill_once_at": 7})).status == "succeeded"
    assert [now - then for now, then in zip(seen(), before, strict=True)] == [1, 1, 2]
    assert value("difftune_steps_per_second", slot="0") == 0.0  # nothing trains now
