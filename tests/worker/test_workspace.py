"""Folders of a node: whose process may be killed, what is taken from the store, what a link is called."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.storage.local import LocalStore
from difftune_core.hooks import TaskError
from worker import workspace as module
from worker.workspace import Workspace, aside_of, cached_dataset, fetch_dataset


@pytest.fixture
def leader() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads its own group, as a trainer does."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace that somebody holds on to."""
    monkeypatch.setattr(module, "_LOCK_WAIT_S", 0.2)
    workspace = Workspace(tmp_path, "ftjob_1")
    workspace.out.mkdir(parents=True)
    with (workspace.folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield workspace


def test_a_trainer_that_an_earlier_attempt_left_is_killed(busy: Workspace, leader: subprocess.Popen[bytes]) -> None:
    busy.note_child(leader.pid)
    with pytest.raises(TaskError, match="had not ended yet"):
        busy.lock()
    assert leader.wait(timeout=30) == -9


def test_another_process_with_the_same_id_is_left_alone(busy: Workspace, leader: subprocess.Popen[bytes]) -> None:
    noted = busy.folder / "child.json"
    for started in ("1", None):  # of a process that has gone; of one of which that was never known
        noted.write_text(json.dumps({"pid": leader.pid, "started": started}), encoding="utf-8")
        with pytest.raises(TaskError, match="had not ended yet"):
            busy.lock()
    assert leader.poll() is None


def test_where_no_start_can_be_known_nobody_is_killed(
    busy: Workspace, leader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_start_time", lambda _pid: None)  # as where there is no /proc
    busy.note_child(leader.pid)
    with pytest.raises(TaskError, match="had not ended yet"):
        busy.lock()
    assert leader.poll() is None


def test_a_free_workspace_is_taken_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCK_WAIT_S", 0.2)
    held = Workspace(tmp_path, "ftjob_1").lock()
    with pytest.raises(TaskError, match="had not ended yet"):
        Workspace(tmp_path, "ftjob_1").lock()
    os.close(held)
    os.close(Workspace(tmp_path, "ftjob_1").lock())


@pytest.mark.parametrize("stated", [3, 5])
def test_a_part_of_another_size_than_its_row_says_is_damaged(tmp_path: Path, stated: int) -> None:
    store = LocalStore(tmp_path / "objects", b"secret", "http://localhost")
    store.put_stream("uploads/1/0", [b"four"])
    parts = [{"key": "uploads/1/0", "bytes": stated}]
    with pytest.raises(TaskError) as caught:
        fetch_dataset(store, parts, tmp_path, lambda: None)
    assert caught.value.code == "damaged_file"
    assert f"has 4 bytes in the store, not {stated}" in str(caught.value)
    assert not list(cached_dataset(tmp_path, "").parent.glob("*.zip"))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("flowers.zip", "flowers.zip"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\\b\n.zip", "a_b_.zip"),
        ("..", "data"),
        ("", "data"),
        ("x" * 200 + ".zip", "x" * 56 + ".zip"),
    ],
)
def test_a_link_has_its_owners_name_and_never_leaves_its_folder(tmp_path: Path, given: str, name: str) -> None:
    cached = tmp_path / "cached.zip"
    cached.write_bytes(b"images")
    workspace = Workspace(tmp_path, "ftjob_1")
    link = workspace.input_file("data", given, cached)
    assert link == workspace.folder / "inputs" / "data" / name
    assert link.read_bytes() == b"images"


@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_what_was_left_unfinished_is_removed_and_what_was_finished_stays(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "cache"
    with pytest.raises(OSError, match="broken off"), aside_of(folder) as aside:  # noqa: PT012  # what is interrupted
        if kind == "folder":
            aside.mkdir()
            (aside / "half").touch()
        elif kind == "file":
            aside.write_bytes(b"half")
        raise OSError("broken off")
    assert list(folder.iterdir()) == []
    with aside_of(folder) as aside:
        aside.write_bytes(b"whole")
        aside.rename(folder / "done")
    assert [path.name for path in folder.iterdir()] == ["done"]
