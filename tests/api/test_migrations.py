from __future__ import annotations

from multiprocessing import get_context
from pathlib import Path

import pytest
from alembic.util import CommandError
from sqlalchemy import inspect

from api.db import Database
from api.keys.models import ApiKey
from api.rows import metadata
from migrations.run import check, downgrade, upgrade

pytestmark = pytest.mark.both_databases


@pytest.fixture
def url(request: pytest.FixtureRequest, database_kind: str, tmp_path: Path) -> str:
    """Of a database without tables."""
    if database_kind == "postgresql":
        return str(request.getfixturevalue("empty_postgres"))
    return f"sqlite:///{tmp_path / 'new folder' / 'rows.sqlite3'}"


def tables(url: str) -> set[str]:
    database = Database(url)
    found = set(inspect(database.engine).get_table_names())
    database.close()
    return found


def test_up_down_up_and_the_models_match(url: str) -> None:
    upgrade(url)
    assert tables(url) == {*metadata.tables, "alembic_version"}
    check(url)
    downgrade(url, "base")
    assert tables(url) == {"alembic_version"}
    upgrade(url)
    check(url)


def test_a_difference_is_found(url: str) -> None:
    upgrade(url)
    database = Database(url)
    with database.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE jobs DROP COLUMN recoveries")
    database.close()
    with pytest.raises(CommandError, match="recoveries"):
        check(url)


def test_upgrading_again_keeps_rows(url: str) -> None:
    upgrade(url)
    database = Database(url)
    with database.write() as session:
        session.add(ApiKey(id="key_1", tenant_id="t", name="n", secret_sha256="0", created_at=1.0))
    upgrade(url)
    with database.read() as session:
        assert session.get_one(ApiKey, "key_1").name == "n"
    database.close()


def test_processes_that_start_at_once_migrate_once(url: str) -> None:
    with get_context("spawn").Pool(3) as pool:
        pool.map(upgrade, [url] * 3)
    check(url)


def test_the_database_itself_refuses_an_unknown_status(url: str) -> None:
    upgrade(url)
    database = Database(url)
    named = {
        name
        for table in metadata.tables
        for name in [c["name"] for c in inspect(database.engine).get_check_constraints(table)]
    }
    database.close()
    assert named == {
        "ck_comparisons_status",
        "ck_analyses_status",
        "ck_datasets_status",
        "ck_jobs_status",
        "ck_retention_artifacts_status",
        "ck_uploads_status",
        "ck_work_items_state",
    }
