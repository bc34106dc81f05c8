"""Who wrote what: triggers in the storm's database note every write of a worker to a job that was not in its hands.

They ask nothing of the code under test: each process says its name and pid when it connects (`PGAPPNAME`), and a job
is in the hands of the worker that made its newest attempt, until the transaction that ends this attempt is over.
"""

from __future__ import annotations

from sqlalchemy import text

from api.db import Database

# An attempt's end counts as part of it: whoever ends it writes why, in the same transaction.
_TRIGGER = """
CREATE TABLE stale_writes (job_id text, writer text, what text, at timestamptz DEFAULT clock_timestamp());

CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  writer text := current_setting('application_name');
  job text := to_jsonb(NEW) ->> TG_ARGV[0];
  newest record;
BEGIN
  IF writer NOT LIKE 'worker-%' THEN RETURN NULL; END IF;
  SELECT a.worker_id, a.ended_at IS NULL OR a.xmin::text = (pg_current_xact_id()::xid)::text AS goes_on INTO newest
    FROM attempts a JOIN work_items i ON i.id = a.work_item_id
    WHERE i.subject_id = job ORDER BY a.started_at DESC, a.fence DESC LIMIT 1;
  IF newest.worker_id NOT LIKE '%-' || split_part(writer, ' ', 2) || '-%' OR NOT newest.goes_on THEN
    INSERT INTO stale_writes VALUES (job, writer, TG_TABLE_NAME);
  END IF;
  RETURN NULL;
END $$;
"""
_WATCHED = {"jobs": "id", "events": "job_id", "checkpoints": "job_id"}
_NAMED = 'PGAPPNAME="$0 $$" exec "$@"'


def named(name: str, argv: list[str]) -> list[str]:
    """The command of a process whose connections tell its name and pid."""
    return ["/bin/sh", "-c", _NAMED, name, *argv]


def install(database: Database) -> None:
    """Put the triggers into a database that is up to date."""
    with database.write() as session:
        session.execute(text(_TRIGGER))
        for table, column in _WATCHED.items():
            when = f"AFTER INSERT OR UPDATE ON {table}"
            session.execute(text(f"CREATE TRIGGER witness {when} FOR EACH ROW EXECUTE FUNCTION witness('{column}')"))


def stale_writes(database: Database) -> list[str]:
    """Return what was noted, by job and writer."""
    query = "SELECT job_id, writer, what, count(*) FROM stale_writes GROUP BY 1, 2, 3 ORDER BY min(at)"
    with database.read() as session:
        return [
            f"{job}: {count} writes to {what} by {writer}" for job, writer, what, count in session.execute(text(query))
        ]
