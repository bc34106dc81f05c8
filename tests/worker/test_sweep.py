"""What the sweep clears away; what it recovers is in test_leases.py."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from api.settings import Settings
from api.storage import open_store
from api.uploads.models import Upload, UploadPart
from api.work.models import WorkItem
from worker.__main__ import sweep as sweep_until_ended
from worker.sweep import Sweep

pytestmark = pytest.mark.both_databases

Bench = Any  # the class of conftest.py


def test_an_abandoned_upload_loses_its_parts(bench: Bench) -> None:
    store = open_store(bench.settings)
    now = time.time()
    common = {"tenant_id": "t", "filename": "a.zip", "mime_type": "application/zip", "purpose": "fine-tune"}
    with bench.database.write() as session:
        for name, expires_at in (("old", now - 1), ("live", now + 100)):
            session.add(Upload(id=name, bytes=1, created_at=0, expires_at=expires_at, **common))
            session.flush()
            session.add(UploadPart(id=f"{name}-part", upload_id=name, key=f"uploads/{name}/p", bytes=1, created_at=0))
            store.put_stream(f"uploads/{name}/p", [b"x"])
    sweep = Sweep(bench.settings)
    assert [sweep.expire_uploads(), sweep.expire_uploads()] == [1, 0]
    sweep.close()
    assert [o.key for o in store.list("uploads/")] == ["uploads/live/p"]
    assert bench.get(Upload, "old").status == "expired"
    assert bench.get(Upload, "live").status == "pending"


def test_the_parts_of_an_overdue_upload_make_room_at_once_while_their_links_live(bench: Bench) -> None:
    now = time.time()
    common = {"tenant_id": "t", "filename": "a.zip", "mime_type": "application/zip", "purpose": "fine-tune"}
    with bench.database.write() as session:
        session.add(Upload(id="old", bytes=1, created_at=now - 9, expires_at=now - 1, **common))
        session.flush()
        session.add(UploadPart(id="part", upload_id="old", key="uploads/old/p", bytes=1, created_at=now))
        bench.store.put_stream("uploads/old/p", [b"x"])
    sweep = Sweep(bench.settings)
    assert sweep.expire_uploads() == 0, "the row stays: the link may send it once more"
    sweep.close()
    assert list(bench.store.list("uploads/")) == []


def test_a_part_sent_by_a_link_that_outlived_its_upload_is_swept(bench: Bench) -> None:
    """Only when the link has run out: a PUT before that would leave an object that no row names."""
    now, ttl = time.time(), bench.settings.link_ttl_s
    common = {"tenant_id": "t", "filename": "a.zip", "mime_type": "application/zip", "purpose": "fine-tune"}
    with bench.database.write() as session:
        for status in ("cancelled", "completed"):
            session.add(Upload(id=status, status=status, bytes=1, created_at=now, expires_at=now + 99, **common))
            session.flush()
            for part, size, age in (("late", None, 3 * ttl), ("young", None, 0.0), ("used", 1, 3 * ttl)):
                key = f"uploads/{status}/{part}"
                row = UploadPart(id=f"{status}-{part}", upload_id=status, key=key, bytes=size, created_at=now - age)
                session.add(row)
                bench.store.put_stream(key, [b"x"])
    sweep = Sweep(bench.settings)
    assert [sweep.expire_uploads(), sweep.expire_uploads()] == [3, 0]
    sweep.close()
    left = [o.key.removeprefix("uploads/") for o in bench.store.list("uploads/")]
    assert left == ["cancelled/young", "completed/used", "completed/young"]


def test_what_a_killed_process_left_half_written_is_swept(bench: Bench) -> None:
    folder = bench.settings.data_dir / "objects" / ".incoming"
    for name, age_s in (("old", 90_000.0), ("young", 1.0)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (0, time.time() - age_s))
    sweep = Sweep(bench.settings)
    assert [sweep.clean(), sweep.clean()] == [1, 0]
    sweep.close()
    assert [path.name for path in folder.iterdir()] == ["young"]


def test_the_log_is_folded_once_it_has_grown(bench: Bench, database_kind: str) -> None:
    if database_kind != "sqlite":
        pytest.skip("of SQLite's log")
    sweep = Sweep(bench.settings)
    assert sweep.fold_log() is False
    with bench.database.write() as session:
        for n in range(400):
            values = {"id": f"u{n}", "tenant_id": "t", "filename": "x" * 200, "mime_type": "y" * 200, "purpose": "z"}
            session.add(Upload(bytes=1, created_at=0, expires_at=time.time() + 99, **values))
            session.flush()
    with bench.database.write() as session:
        session.execute(update(Upload).values(filename="w" * 250, mime_type="v" * 250))
    while _wal(bench).stat().st_size < 1 << 20:
        with bench.database.write() as session:
            session.execute(update(Upload).values(bytes=Upload.bytes + 1))
    assert sweep.fold_log() is True
    assert _wal(bench).stat().st_size == 0
    sweep.close()


def test_a_sweep_that_is_asked_to_end_does_not_wait_for_its_next_round(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Ended(Sweep):
        def __init__(self, _: object) -> None:
            super().__init__(settings.model_copy(update={"sweep_s": 20.0}))

        def once(self) -> bool:
            signal.raise_signal(signal.SIGTERM)
            return True

        def close(self) -> None:
            closed.append(True)
            super().close()

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr("worker.sweep.Sweep", Ended)
    began = time.monotonic()
    sweep_until_ended()
    assert time.monotonic() - began < 10
    assert closed == [True]
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("age_s", "rings"), [(4.0, False), (60.0, True)])
def test_the_bell_rings_for_work_that_nobody_rang_for(bench: Bench, age_s: float, *, rings: bool) -> None:
    """After a few seconds: who has made it may be about to ring."""
    job_id = bench.job()
    with bench.database.write() as session:
        session.execute(update(WorkItem).values(created_at=time.time() - age_s))
    sweep = Sweep(bench.settings)
    assert sweep.ring() is rings
    assert (bench.item(job_id).rung_at is not None) is rings
    assert sweep.ring() is False, "once"
    sweep.close()


def _wal(bench: Bench) -> Path:
    return Path(f"{bench.database.engine.url.database}-wal")
