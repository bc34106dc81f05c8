"""`difftune keys`, as an operator types it, against a service that answers in this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import uvicorn
from sqlalchemy import func, select
from typer.testing import CliRunner, Result

from api.app import create_app
from api.datasets import service as datasets
from api.jobs.models import Job
from api.jobs.states import JobStatus
from api.keys.models import ApiKey
from api.keys.operating import ensure_first
from api.settings import Settings
from cli.main import app

Keys = Callable[..., Result]


@pytest.fixture
def settings(tmp_path: Path, migrated: Callable[[Path], None]) -> Settings:
    settings = Settings(data_dir=tmp_path, key_cache_s=0.3)
    migrated(tmp_path)
    return settings


@pytest.fixture
def keys(settings: Settings) -> Keys:
    def run(verb: str, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["keys", verb, *arguments, "--data-dir", str(settings.data_dir)])

    return run


@pytest.fixture
def service(settings: Settings) -> Iterator[tuple[httpx2.Client, uvicorn.Server]]:
    made = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(made, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}/v1", timeout=20, trust_env=False) as client:
        yield client, server
    server.should_exit = True
    thread.join(10)


def status(service: tuple[httpx2.Client, uvicorn.Server], token: str) -> int:
    return service[0].get("/models", headers={"authorization": f"Bearer {token}"}).status_code


def listed(keys: Keys) -> dict[str, dict[str, str]]:
    return {found["name"]: found for found in map(json.loads, keys("list", "--json").stdout.splitlines())}


def test_a_key_is_added_listed_rotated_and_revoked(
    keys: Keys, service: tuple[httpx2.Client, uvicorn.Server], capfd: pytest.CaptureFixture[str]
) -> None:
    first = keys("add", "--tenant", "lab", "--name", "ci").stdout.strip()
    assert status(service, first) == 200
    found = listed(keys)["ci"]
    assert (found["tenant_id"], found["state"], found["expires_at"]) == ("lab", "valid", None)
    second = keys("rotate", found["id"]).stdout.strip()
    assert second != first
    time.sleep(0.4)
    assert (status(service, first), status(service, second)) == (401, 200)
    told = keys("revoke", f"key_{second.split('_')[1]}")
    assert told.exit_code == 0
    time.sleep(0.4)
    assert status(service, second) == 401
    assert "is revoked: within 5 s" in capfd.readouterr().err
    shown = keys("list").stdout
    assert shown.count("revoked") == 2
    assert first.split("_")[2] not in shown


def test_a_rotated_key_works_on_for_a_while_if_asked(keys: Keys, service: tuple[httpx2.Client, uvicorn.Server]) -> None:
    first = keys("add", "--tenant", "lab", "--name", "ci").stdout.strip()
    second = keys("rotate", f"key_{first.split('_')[1]}", "--overlap", "2d").stdout.strip()
    time.sleep(0.4)
    assert (status(service, first), status(service, second)) == (200, 200)


def test_a_key_ends_when_its_time_is_over(
    keys: Keys, settings: Settings, service: tuple[httpx2.Client, uvicorn.Server]
) -> None:
    token = keys("add", "--tenant", "lab", "--name", "guest", "--expires", "12h").stdout.strip()
    assert status(service, token) == 200
    database = create_app(settings).state.services.database
    with database.write() as session:
        [key] = session.scalars(select(ApiKey))
        assert key.expires_at == pytest.approx(time.time() + 12 * 3600, abs=60)
        key.expires_at = time.time() - 1
    time.sleep(0.4)
    assert status(service, token) == 401
    assert listed(keys)["guest"]["state"] == "expired"
    database.close()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("add", "--tenant", "a b", "--name", "x"), "tenant"),
        (("add", "--tenant", "a", "--name", "x", "--expires", "2020-01-01"), "expired"),
        (("rotate", "key_none"), "key_none"),
        (("revoke", "key_none"), "key_none"),
    ],
)
def test_what_cannot_be_done_is_said(
    keys: Keys, arguments: tuple[str, ...], named: str, *, capfd: pytest.CaptureFixture[str]
) -> None:
    done = keys(*arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert named in capfd.readouterr().err


def test_a_folder_without_a_service_is_no_new_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "nothing"
    assert CliRunner().invoke(app, ["keys", "list", "--data-dir", str(folder)]).exit_code == 1
    assert "there is no service" in capfd.readouterr().err
    assert not folder.exists()


def test_a_stream_ends_with_the_key_that_opened_it(
    keys: Keys, settings: Settings, service: tuple[httpx2.Client, uvicorn.Server]
) -> None:
    token = keys("add", "--tenant", "lab", "--name", "leaked").stdout.strip()
    database = create_app(settings).state.services.database
    with database.write() as session:
        used = datasets.create(session, "lab", filename="x.zip", purpose="fine-tune", parts=[])
        common = {"model": "tiny-dit", "config": {}, "training_file": used.id, "total_steps": 1, "created_at": 1.0}
        session.flush()
        session.add(Job(id="ftjob_1", tenant_id="lab", status=JobStatus.RUNNING, priority=0, **common))
    database.close()
    url, headers = "/fine_tuning/jobs/ftjob_1/events?stream=true", {"authorization": f"Bearer {token}"}
    began = time.monotonic()
    with service[0].stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200
        keys("revoke", f"key_{token.split('_')[1]}")
        assert list(answer.iter_lines()) is not None
    assert time.monotonic() - began < 15


def test_a_key_whose_file_was_removed_is_revoked(settings: Settings, keys: Keys) -> None:
    database = create_app(settings).state.services.database
    path, told = ensure_first(database, settings.data_dir)
    assert told == []
    old = f"key_{path.read_text().split('_')[1]}"
    path.unlink()
    keys("add", "--tenant", "lab", "--name", "another")
    path, told = ensure_first(database, settings.data_dir)
    assert old in told[0]
    assert "1 other key" in told[-1]
    found = {line["id"]: line["state"] for line in map(json.loads, keys("list", "--json").stdout.splitlines())}
    assert found.pop(old) == "revoked"
    assert set(found.values()) == {"valid"}
    rotated = keys("rotate", f"key_{path.read_text().split('_')[1]}").stdout
    assert path.read_text() == rotated
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(ApiKey)) == 4
    database.close()


def test_a_file_of_elsewhere_revokes_nothing(settings: Settings, keys: Keys) -> None:
    """As after a restore, or in another pod: the keys that clients have go on working, and the operator is told."""
    keys("add", "--tenant", "default", "--name", "theirs")
    database = create_app(settings).state.services.database
    _, told = ensure_first(database, settings.data_dir)
    assert "1 other key" in told[-1]
    assert listed(keys)["theirs"]["state"] == "valid"
    database.close()
