"""A full disk: what is kept back for deleting, and what clients are told. A real small disk is in tests/worker."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import event, text
from starlette.testclient import TestClient

from api.deps import Services
from api.logging import configure_logging
from api.room import Reserve, shed
from api.settings import Settings

Problem = Callable[..., dict[str, Any]]
MIB = 1 << 20


class Disk:
    """How much room the machine says that there is."""

    def __init__(self, folder: Path) -> None:
        self._real = shutil.disk_usage(folder)
        self.free = 10_000 * MIB

    def __call__(self, _: object) -> Any:
        return self._real._replace(total=100_000 * MIB, free=self.free)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", made)
    return made


def test_the_reserve_goes_piece_by_piece_and_comes_back_when_there_is_plenty(tmp_path: Path, disk: Disk) -> None:
    reserve = Reserve(tmp_path)
    reserve.make()
    sizes = [path.stat().st_size for path in (tmp_path / "reserve").iterdir()]
    assert sizes == [reserve.piece_bytes] * 4 == [16 * MIB] * 4
    assert not reserve.release_if_short()
    disk.free = 15 * MIB
    assert [reserve.release_if_short() for _ in range(5)] == [True] * 4 + [False]
    disk.free = 70 * MIB  # as much as the pieces take: making them again would fill the disk
    reserve.make()
    assert not list((tmp_path / "reserve").iterdir())
    disk.free = 10_000 * MIB
    reserve.make()
    assert len(list((tmp_path / "reserve").iterdir())) == 4


@pytest.mark.parametrize(
    ("request_line", "left"),
    [
        ("DELETE /v1/files/ds_1", 3),
        ("POST /v1/fine_tuning/jobs/ftjob_1/cancel", 3),
        ("POST /v1/fine_tuning/jobs/ftjob_1/pause", 3),
        ("POST /v1/uploads", 4),
        ("GET /v1/files", 4),
    ],
)
def test_on_a_full_disk_deleting_and_ending_are_given_room(
    client: TestClient, settings: Settings, disk: Disk, request_line: str, left: int
) -> None:
    Reserve(settings.data_dir).make()
    disk.free = 0
    client.request(*request_line.split())
    assert len(list((settings.data_dir / "reserve").iterdir())) == left


def test_a_database_without_room_is_told_as_such(
    client: TestClient, services: Services, ready: str, assert_problem: Problem
) -> None:
    """It answers, and reads go on."""
    with services.database.read() as session:
        pages = session.scalar(text("PRAGMA page_count"))
    event.listen(services.database.engine, "connect", lambda raw, _: raw.execute(f"PRAGMA max_page_count = {pages}"))
    services.database.engine.dispose()
    body = {"model": "tiny-dit", "training_file": ready, "metadata": {f"{n}": "x" * 500 for n in range(16)}}
    answers = [client.post("/v1/fine_tuning/jobs", json=body) for _ in range(10)]
    full = next(answer for answer in answers if answer.status_code != 200)
    assert "Delete what is not needed" in assert_problem(full, 507, "storage_full")["detail"]
    assert client.get(f"/v1/files/{ready}").status_code == 200


def test_what_can_be_had_again_is_shed(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in ("logs/api.log", "cache/latents/a/rows", "objects/uploads/u/p")]
    gone = [tmp_path / name for name in ("logs/api.log.1", "cache/datasets/0.zip")]
    for path in (*kept, *gone):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    shed(tmp_path)
    assert [path.exists() for path in (*kept, *gone)] == [True] * 3 + [False] * 2


class FullStream(io.StringIO):
    def write(self, _: str, /) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_fails_nothing() -> None:
    configure_logging(stream=FullStream())
    structlog.get_logger("x").warning("lost")
