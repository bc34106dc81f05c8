"""A small disk that is really full. What needs no mount, and so no root, is in test_room.py."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.keys import service as keys
from api.room import Reserve
from api.settings import Settings

Problem = Callable[..., dict[str, Any]]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "difftune-test", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.fixture
def client(small_disk: Path, migrated: Callable[[Path], None]) -> Iterator[TestClient]:
    settings = Settings(data_dir=small_disk)
    migrated(small_disk)
    app = create_app(settings)
    with app.state.services.database.write() as session:
        token = keys.create(session, tenant_id="default", name="test")[1]
    Reserve(small_disk).make()
    with TestClient(app, headers={"authorization": f"Bearer {token}"}) as made:
        yield made


def fill(disk: Path) -> None:
    number = len(list(disk.glob("filler-*")))
    with (disk / f"filler-{number}").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def test_on_a_full_disk_uploads_are_refused_and_deleting_works(
    client: TestClient, small_disk: Path, assert_problem: Problem
) -> None:
    """Even when it fills up again at once, and without a row that was promised and is not there."""

    def send() -> Any:
        return client.post("/v1/files", files={"file": ("a.zip", bytes(100_000))}, data={"purpose": "fine-tune"})

    ids = [send().json()["id"] for _ in range(3)]
    for id_ in ids:
        fill(small_disk)
        assert_problem(send(), 507, "storage_full")
        assert client.delete(f"/v1/files/{id_}").status_code == 200
    assert client.get("/v1/files").json()["data"] == []
    assert not [path for path in (small_disk / "objects" / "uploads").rglob("*") if path.is_file()]
