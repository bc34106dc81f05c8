"""Backup of a running service, restore into an empty one: SQLite and a folder. PostgreSQL is in tests/services."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from api.datasets import service as datasets
from api.datasets.models import Dataset
from api.db import Database
from api.settings import Settings
from api.storage import open_store
from migrations.backup.__main__ import main as command
from migrations.backup.manifest import BackupError
from migrations.backup.run import make_backup, restore_backup
from migrations.run import RevisionError, check, downgrade, upgrade

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lived(tmp_path: Path, migrated: Callable[[Path], None]) -> Settings:
    """A service with three data sets."""
    settings = Settings(data_dir=tmp_path / "old")
    migrated(settings.data_dir)
    for number in range(3):
        add_dataset(settings, str(number))
    return settings


@pytest.fixture
def fresh(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "new")


def add_dataset(settings: Settings, name: str) -> None:
    store, database = open_store(settings), Database(settings.database)
    stored = store.put_stream(f"datasets/{name}/file", [name.encode() * 1000])
    with database.write() as session:
        parts = [{"key": stored.key, "bytes": stored.bytes}]
        datasets.create(session, "t", filename=f"{name}.zip", purpose="fine-tune", parts=parts, dataset_id=name)
    database.close()


def names(settings: Settings) -> list[str]:
    database = Database(settings.database)
    with database.read() as session:
        found = sorted(row.id for row in session.query(Dataset))
    database.close()
    return found


def test_a_backup_is_restored_with_its_objects(lived: Settings, fresh: Settings, tmp_path: Path) -> None:
    made = make_backup(lived, tmp_path / "backup", with_objects=True)
    assert (made.rows["datasets"], len(made.objects), made.missing) == (3, 3, [])
    shutil.rmtree(lived.data_dir)
    restored = restore_backup(fresh, tmp_path / "backup")
    assert (restored.missing, restored.damaged) == ([], [])
    assert names(fresh) == ["0", "1", "2"]
    assert b"".join(open_store(fresh).read("datasets/2/file")) == b"2" * 1000
    check(fresh.database)
    with sqlite3.connect(fresh.data_dir / "difftune.sqlite3") as connection:
        fences = {fence for (fence,) in connection.execute("SELECT fence FROM work_items")}
    assert fences == {1000}, "attempts after the backup may have left objects under the next fences"


def test_a_backup_without_objects_says_what_the_store_lacks(lived: Settings, fresh: Settings, tmp_path: Path) -> None:
    assert not make_backup(lived, tmp_path / "backup", with_objects=False).with_objects
    shutil.copytree(lived.data_dir / "objects", fresh.data_dir / "objects")
    (fresh.data_dir / "objects" / "datasets" / "1" / "file").unlink()
    (fresh.data_dir / "objects" / "datasets" / "2" / "file").write_bytes(b"2" * 999 + b"!")
    restored = restore_backup(fresh, tmp_path / "backup")
    assert (restored.missing, restored.damaged) == (["datasets/1/file"], ["datasets/2/file"])


def test_an_object_that_is_missing_at_backup_is_named(lived: Settings, tmp_path: Path) -> None:
    open_store(lived).delete("datasets/1/file")
    assert make_backup(lived, tmp_path / "backup", with_objects=True).missing == ["datasets/1/file"]


def test_a_backup_under_writes_is_of_one_moment(lived: Settings, fresh: Settings, tmp_path: Path) -> None:
    ended = threading.Event()

    def write() -> None:
        for number in range(3, 1000):
            if ended.is_set():
                return
            add_dataset(lived, str(number))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(0.2)
        made = make_backup(lived, tmp_path / "backup", with_objects=True)
    finally:
        ended.set()
        writer.join()
    assert made.rows["datasets"] == made.rows["work_items"] == len(made.objects)
    restored = restore_backup(fresh, tmp_path / "backup")
    assert (restored.missing, restored.damaged) == ([], [])


def test_nothing_is_overwritten_or_half_restored(lived: Settings, fresh: Settings, tmp_path: Path) -> None:
    make_backup(lived, tmp_path / "backup", with_objects=False)
    with pytest.raises(BackupError, match="there already"):
        make_backup(lived, tmp_path / "backup", with_objects=False)
    with pytest.raises(BackupError, match="not empty"):
        restore_backup(lived, tmp_path / "backup")
    with pytest.raises(BackupError, match="no backup"):
        restore_backup(fresh, tmp_path)
    with (tmp_path / "backup" / "database.sqlite3").open("ab") as file:
        file.write(b"!")
    with pytest.raises(BackupError, match="damaged"):
        restore_backup(fresh, tmp_path / "backup")
    assert not (fresh.data_dir / "difftune.sqlite3").exists()


def test_the_command_says_what_it_did(lived: Settings, fresh: Settings, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    backup = str(tmp_path / "backup")
    done = run("backup", backup, "--with-objects", "--data-dir", str(lived.data_dir))
    assert done.returncode == 0, done.stderr
    assert "3 objects (3000 bytes) written to" in done.stdout
    assert modes(tmp_path / "backup") == {0o700, 0o600}
    shutil.rmtree(tmp_path / "backup" / "objects" / "datasets" / "1")
    done = run("restore", backup, "--data-dir", str(fresh.data_dir))
    assert (done.returncode, done.stderr) == (1, "missing from the store: datasets/1/file\n")
    assert "of 3 objects (3000 bytes), 2 are whole in the store" in done.stdout
    assert modes(fresh.data_dir) == {0o700, 0o600}
    done = run("restore", backup, "--data-dir", str(fresh.data_dir))
    assert done.returncode == 2
    assert "is not empty" in done.stderr


def modes(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}


def test_a_restore_without_objects_does_not_say_that_it_brought_some(
    lived: Settings,
    fresh: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = []
    for verb, settings in (("backup", lived), ("restore", fresh)):
        monkeypatch.setenv("DIFFTUNE_DATA_DIR", str(settings.data_dir))
        monkeypatch.setattr(sys, "argv", ["backup", verb, str(tmp_path / "backup")])
        command()
        said.append(capsys.readouterr().out)
    assert "a list of 3 objects (3000 bytes) written to" in said[0]
    monkeypatch.setattr(sys, "argv", ["backup", "backup", str(tmp_path / "again"), "--json"])
    monkeypatch.setenv("DIFFTUNE_DATA_DIR", str(lived.data_dir))
    command()
    told = json.loads(capsys.readouterr().out)
    assert (told["done"], told["objects"], told["bytes"], told["missing"]) == ("backup", 3, 3000, [])
    assert "of 3 objects (3000 bytes), none of which was in the backup, 0 are whole in the store" in said[1]


def test_a_database_of_another_version_is_told_in_a_sentence(lived: Settings, tmp_path: Path) -> None:
    downgrade(lived.database, "0011")
    with pytest.raises(RevisionError, match=r"at revision 0011, of an older difftune, .* needs \d{4}: back it up"):
        make_backup(lived, tmp_path / "backup", with_objects=False)
    set_revision(lived, "9999")
    for act in (lambda: make_backup(lived, tmp_path / "backup", with_objects=False), lambda: upgrade(lived.database)):
        with pytest.raises(RevisionError, match="at revision 9999, of a newer difftune than this one"):
            act()
    assert not (tmp_path / "backup").exists()


def test_a_backup_of_a_newer_version_is_not_restored(lived: Settings, fresh: Settings, tmp_path: Path) -> None:
    make_backup(lived, tmp_path / "backup", with_objects=False)
    path = tmp_path / "backup" / "manifest.json"
    made = json.loads(path.read_text())
    path.write_text(json.dumps({**made, "revision": "9999", "difftune": "99.0"}))
    with pytest.raises(BackupError, match=r"made by difftune 99\.0, which is newer than this one"):
        restore_backup(fresh, tmp_path / "backup")
    assert not (fresh.data_dir / "difftune.sqlite3").exists()


def set_revision(settings: Settings, revision: str) -> None:
    with sqlite3.connect(settings.data_dir / "difftune.sqlite3") as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
