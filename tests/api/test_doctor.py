from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from api.doctor import broker, disk, models, store
from api.findings import Finding, examined
from api.settings import Settings
from migrations.run import downgrade, examine


def states(findings: Iterable[Finding]) -> list[str]:
    return [finding.state for finding in findings]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    usage = shutil.disk_usage(tmp_path)._replace(free=100 * 2**30)  # how full this disk is must not decide a test
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    return Settings(data_dir=tmp_path)


def test_an_embedded_service_that_has_not_started_yet_is_well(settings: Settings) -> None:
    for look in (broker.look, store.look, disk.look, disk.look_at_secrets, models.look):
        assert states(look(settings)) == ["good"]
    assert states(examine(settings.database)) == ["good"]


def test_a_data_folder_that_is_missing_or_none(settings: Settings) -> None:
    missing, file = settings.data_dir / "a" / "b", settings.data_dir / "file"
    found, room = disk.look(Settings(data_dir=missing))
    assert (found.state, found.message, room.state) == ("poor", f"{missing} does not exist", "good")
    assert room.message.startswith(f"{settings.data_dir} has ")
    file.touch()
    (found,) = disk.look(Settings(data_dir=file))
    assert (found.state, found.message) == ("bad", f"{file} is no folder")


def test_a_data_folder_that_others_may_look_into_is_named(settings: Settings) -> None:
    settings.data_dir.chmod(0o755)
    (settings.data_dir / "difftune.sqlite3").touch(0o644)
    found, room = disk.look(settings)
    assert (found.state, found.advice, room.state) == ("poor", f"chmod -R go= {settings.data_dir}", "good")
    assert "has mode 0755, and 1 files in it can be read by others" in found.message


def test_a_key_that_others_may_read_is_named(settings: Settings) -> None:
    key = settings.data_dir / "api-key"
    key.write_text("dft_")
    key.chmod(0o640)
    (found,) = disk.look_at_secrets(settings)
    assert (found.state, found.advice) == ("bad", f"chmod 600 {key}")
    key.chmod(0o600)
    assert states(disk.look_at_secrets(settings)) == ["good"]


def test_secret_files_are_looked_at_too(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = settings.data_dir / "given"
    folder.mkdir()
    (folder / "difftune_broker_url").write_text("redis://")
    (folder / "difftune_broker_url").chmod(0o644)
    monkeypatch.setenv("DIFFTUNE_SECRETS_DIR", str(folder))
    (found,) = disk.look_at_secrets(settings)
    assert "difftune_broker_url has mode 0644" in found.message


def test_a_disk_that_is_nearly_full(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(settings.data_dir)
    for free, state in ((5 * 2**30, "poor"), (2**20, "bad")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        assert states(disk.look(settings)) == [state]


def test_a_base_model_with_other_weights_is_named(settings: Settings) -> None:
    copied = settings.data_dir / "models" / "tiny-dit"
    shutil.copytree(settings.bundled_models / "tiny-dit", copied)
    assert states(models.look(settings)) == ["good"]
    weights = min(copied.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    found = list(models.look(settings))
    assert found[0].state == "bad"
    assert "tiny-dit" in found[0].message


def test_a_store_that_loses_what_it_took(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    (settings.data_dir / "objects").mkdir()
    assert states(store.look(settings)) == ["good"]
    monkeypatch.setattr("api.storage.local.LocalStore.read", lambda *_: iter([b"else"]))
    (found,) = store.look(settings)
    assert found.state == "bad"
    assert "did not come back" in found.message
    assert not list((settings.data_dir / "objects").rglob("doctor/*"))


def test_servers_that_are_not_there(settings: Settings) -> None:
    nowhere = {
        "database_url": "postgresql+psycopg://difftune:hunter2@127.0.0.1:1/difftune",
        "broker_url": "redis://:hunter2@127.0.0.1:1/0",
        "store_url": "s3://difftune",
        "s3_endpoint_url": "http://127.0.0.1:1",
        "s3_access_key_id": "id",
        "s3_secret_access_key": "hunter2",
    }
    away = settings.model_copy(update=Settings(**nowhere).model_dump(include=set(nowhere)))  # type: ignore[arg-type]  # read
    found = [*examine(away.database), *broker.look(away), *store.look(away)]
    assert states(found) == ["bad", "poor", "bad"]
    assert all("127.0.0.1:1" in finding.message for finding in found[:2])
    assert not any("hunter2" in finding.model_dump_json() for finding in found)


def test_an_examination_that_breaks_off_is_a_finding() -> None:
    def look() -> Any:
        raise KeyError("surprise")

    (found,) = examined("anything", look)
    assert (found.check, found.state) == ("anything", "bad")


@pytest.mark.services
def test_a_real_database_and_its_revision(postgres: str) -> None:
    assert states(examine(postgres)) == ["good"]
    downgrade(postgres, "-1")
    (found,) = examine(postgres)
    assert found.state == "bad"
    assert "difftune migrate" in found.advice


@pytest.mark.services
def test_a_real_redis(settings: Settings, redis: str) -> None:
    assert states(broker.look(settings.model_copy(update={"broker_url": redis}))) == ["good"]
