from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from api.app import create_app
from api.db import Database
from api.deps import Services
from api.errors import NotFoundError, UnauthenticatedError
from api.keys import last_use, repository
from api.keys import service as keys
from api.keys.models import ApiKey
from api.keys.operating import ensure_first
from api.settings import Settings


def test_a_key_is_verified_and_only_its_hash_is_kept(services: Services, data_dir: Path) -> None:
    with services.database.write() as session:
        key, token = keys.create(session, tenant_id="default", name="ci")
    with services.database.read() as session:
        assert keys.verify(session, token).id == key.id
    secret = token.split("_")[2]
    assert len(secret) == 40  # 160 bits
    stored = b"".join(path.read_bytes() for path in data_dir.glob("*.sqlite3*"))
    assert key.id.encode() in stored
    assert secret.encode() not in stored


def test_changed_keys_are_refused(services: Services, token: str) -> None:
    _, id_, secret, crc = token.split("_")
    with services.database.write() as session:
        _, other = keys.create(session, tenant_id="default", name="other")
    wrong_secret = keys._text(f"key_{id_}", other.split("_")[2])  # with a right checksum
    unknown_id = keys._text("key_" + "0" * 26, secret)
    for text in [wrong_secret, unknown_id, f"dft_{id_}_{secret}_{'0' * 8}", token + "0", token.upper(), crc, ""]:
        with services.database.read() as session, pytest.raises(UnauthenticatedError):
            keys.verify(session, text)


def test_a_revoked_key_is_refused_when_its_look_up_is_too_old(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"key_cache_s": 0.2}))
    database: Database = app.state.services.database
    with database.write() as session:
        key, token = keys.create(session, tenant_id="default", name="leaked")
    with TestClient(app, headers={"authorization": f"Bearer {token}"}) as client:
        assert client.get("/v1/models").status_code == 200
        with database.write() as session:
            with pytest.raises(NotFoundError):
                keys.revoke(session, tenant_id="other", key_id=key.id)
            keys.revoke(session, tenant_id="default", key_id=key.id)
        time.sleep(0.25)
        assert client.get("/v1/models").status_code == 401


def test_a_key_is_looked_up_once_for_many_requests(client: TestClient, services: Services) -> None:
    looked_up = []
    event.listen(
        services.database.engine,
        "before_cursor_execute",
        lambda *given: looked_up.append(given[2]) if "FROM api_keys" in given[2] else None,
    )
    for _ in range(5):
        assert client.get("/v1/models").status_code == 200
    assert len(looked_up) == 1


def test_the_first_key_is_made_once_and_works(client: TestClient, services: Services, data_dir: Path) -> None:
    path = ensure_first(services.database, data_dir)[0]
    assert path == data_dir / "api-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = path.read_text().strip()
    assert ensure_first(services.database, data_dir)[0].read_text().strip() == first
    assert client.get("/v1/models", headers={"authorization": f"Bearer {first}"}).status_code == 200


@pytest.mark.parametrize("content", ["", "nonsense", "dft_" + "0" * 26 + "_" + "0" * 40 + "_" + "0" * 8, "\xff"])
def test_a_key_file_that_does_not_work_is_replaced(services: Services, data_dir: Path, content: str) -> None:
    (data_dir / "api-key").write_text(content, encoding="latin-1")
    path = ensure_first(services.database, data_dir)[0]
    with services.database.read() as session:
        assert keys.verify(session, path.read_text().strip()).tenant_id == "default"


def test_other_tenants_see_no_keys(services: Services) -> None:
    with services.database.write() as session:
        key, _ = keys.create(session, tenant_id="default", name="x")
    with services.database.read() as session:
        assert [found.id for found in repository.list_of(session, "default")] == [key.id]
        assert repository.list_of(session, "other") == []


def test_the_last_use_of_a_key_is_kept_without_a_write_for_each_request(settings: Settings) -> None:
    app = create_app(settings)
    database: Database = app.state.services.database
    with database.write() as session:
        key, token = keys.create(session, tenant_id="default", name="ci")
    wrote = []
    event.listen(
        database.engine,
        "before_cursor_execute",
        lambda *given: wrote.append(given[2]) if "UPDATE api_keys" in given[2] else None,
    )
    with TestClient(app, headers={"authorization": f"Bearer {token}"}) as client:
        for _ in range(5):
            assert client.get("/v1/models").status_code == 200
        assert not wrote
    assert len(wrote) == 1
    read = Database(settings.database)
    with read.write() as session:
        found = repository.find(session, key.id)
        assert found is not None
        assert found.last_used_at == pytest.approx(time.time(), abs=30)
        repository.note_uses(session, {key.id: 1.0})
        session.refresh(found)
        assert found.last_used_at > 1.0, "another process has seen a later use"
    read.close()


def test_uses_are_written_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_use, "_EVERY_S", 0.05)
    written: list[set[str]] = []

    async def write(used_at: Mapping[str, float]) -> None:
        written.append(set(used_at))
        raise OSError("a database that does not answer")

    async def run() -> None:
        noting = last_use.LastUse(write)
        for key_id in ("key_1", "key_2", "key_1"):
            noting.note(key_id)
        await asyncio.sleep(0.2)
        noting.note("key_3")
        await noting.close()

    asyncio.run(run())
    assert written == [{"key_1", "key_2"}, {"key_3"}]


def test_of_some_keys_those_that_work_now(services: Services) -> None:
    with services.database.write() as session:
        for name, revoked_at, expires_at in (
            ("works", None, None),
            ("lasts", None, time.time() + 60),
            ("over", None, time.time() - 1),
            ("revoked", 1.0, None),
            ("other", None, None),
        ):
            fields = {"tenant_id": "t", "name": name, "secret_sha256": "0" * 64, "created_at": 0.0}
            session.add(ApiKey(id=name, revoked_at=revoked_at, expires_at=expires_at, **fields))
    with services.database.read() as session:
        assert repository.valid_among(session, ["works", "lasts", "over", "revoked", "nobody's"]) == {"works", "lasts"}
