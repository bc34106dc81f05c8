from __future__ import annotations

from multiprocessing import get_context
from pathlib import Path

import pytest
from alembic.util import CommandError
from sqlalchemy import RowMapping, inspect, text

from api.db import Database
from api.ids import cursor
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
        "ck_subjects_status",
        "ck_uploads_status",
        "ck_work_items_state",
    }


FILES_BEFORE = "0015"
OWNERS = {
    "job_files": ("job_id", "ftjob_1"),
    "comparison_files": ("comparison_id", "cmp_1"),
    "analysis_files": ("analysis_id", "ana_1"),
}


def run(url: str, *statements: str) -> list[RowMapping]:
    """The rows of the last statement."""
    database = Database(url)
    try:
        with database.write() as session:
            results = [session.execute(text(statement)) for statement in statements]
            return list(results[-1].mappings()) if results[-1].returns_rows else []
    finally:
        database.close()


def fill(url: str) -> None:
    """A job, a comparison and an analysis, each with a file, as 0.3.0 had them."""
    about = {
        "datasets": {
            "id": "ds_1",
            "status": "ready",
            "filename": "a",
            "purpose": "fine-tune",
            "bytes": 1,
            "parts": "[]",
        },
        "jobs": {"id": "ftjob_1", "status": "succeeded", "model": "m", "config": "{}", "training_file": "ds_1"}
        | dict.fromkeys(["priority", "step", "total_steps", "recoveries", "last_event"], 0),
        "comparisons": {"id": "cmp_1", "status": "succeeded", "model": "m", "methods": "[]", "seeds": "[]"}
        | {"evaluation": "{}", "training_file": "ds_1", "priority": 0},
        "analyses": {"id": "ana_1", "status": "succeeded", "type": "c", "config": "{}", "checkpoints": "[]"}
        | {"training_file": "ds_1", "done": 1, "total": 1},
    }
    rows = {table: {**fields, "tenant_id": f"tenant of {table}", "created_at": 1.5} for table, fields in about.items()}
    for table, (owner, id_) in OWNERS.items():
        file = {"kind": "report_html", "filename": "r.html", "key": f"{id_}/1/r.html", "bytes": 5_000_000_000}
        rows[table] = {owner: id_, **file, "sha256": id_, "content_type": "text/html", "created_at": 2.5}
    rows["job_files"] |= {"id": "file_1", "tenant_id": "tenant of jobs", "step": 7}
    statements = []
    for table, fields in rows.items():
        values = ", ".join(repr(value) for value in fields.values())
        statements.append(f"INSERT INTO {table} ({', '.join(fields)}) VALUES ({values})")
    run(url, *statements)


def test_files_of_all_subjects_are_carried_over_and_back(url: str) -> None:
    upgrade(url, FILES_BEFORE)
    fill(url)
    before = {table: run(url, f"SELECT * FROM {table}") for table in OWNERS}
    upgrade(url)
    found = {row["subject_id"]: dict(row) for row in run(url, "SELECT * FROM result_files")}
    ids = {subject_id: row.pop("id") for subject_id, row in found.items()}
    for owners, (table, (owner, id_)), step in zip(
        ("jobs", "comparisons", "analyses"), OWNERS.items(), (7, 0, 0), strict=True
    ):
        [expected] = before[table]
        kept = {name: value for name, value in expected.items() if name not in {"id", owner}}
        assert found[id_] == {**kept, "subject_id": id_, "tenant_id": f"tenant of {owners}", "step": step}
    assert ids.pop("ftjob_1") == "file_1"
    assert all(cursor(id_, "file") for id_ in ids.values())
    downgrade(url, FILES_BEFORE)
    assert {table: run(url, f"SELECT * FROM {table}") for table in OWNERS} == before
    upgrade(url)
    check(url)
