from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from api.app import create_app
from api.db import Database
from api.deps import Services
from api.errors import NotFoundError, UnauthenticatedError
from api.keys import repository
from api.keys import service as keys
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
