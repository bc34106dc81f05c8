"""One table for the files of all subjects: those of jobs, comparisons and analyses are carried over."""

from __future__ import annotations

import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_AT_ONCE = 500
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_OF_JOB = ["id", "tenant_id", "subject_id", "step"]
_FILE = ["filename", "kind", "key", "bytes", "sha256", "content_type", "created_at"]
_REPORTS = {"comparison": "comparisons", "analysis": "analyses"}
"""Tables `comparison_files` and `analysis_files`, and those that they belonged to."""


def upgrade() -> None:
    op.create_table("result_files", *_of_any(), sa.PrimaryKeyConstraint("id", name=op.f("pk_result_files")))
    _copy("job_files", ["id", "tenant_id", "job_id", "step", *_FILE], "result_files", [*_OF_JOB, *_FILE])
    for subject, owners in _REPORTS.items():
        files, of = _table(f"{subject}_files", [f"{subject}_id", *_FILE]), _table(owners, ["id", "tenant_id"])
        query = sa.select(of.c.tenant_id, of.c.id.label("subject_id"), *(files.c[name] for name in _FILE))
        query = query.join(of, of.c.id == files.c[f"{subject}_id"]).order_by(of.c.id, files.c.filename)
        rows = [{"step": 0, **row} for row in op.get_bind().execute(query).mappings()]
        numbered = [{"id": _new_id(row["created_at"]), **row} for row in rows]
        for begin in range(0, len(numbered), _AT_ONCE):
            op.bulk_insert(sa.table("result_files", *_of_any()), numbered[begin : begin + _AT_ONCE])
    for table in ("job_files", "comparison_files", "analysis_files"):
        op.drop_table(table)
    op.create_index(op.f("ix_result_files_tenant_id"), "result_files", ["tenant_id"])
    op.create_index("ix_result_files_subject_id", "result_files", ["subject_id", "kind", "step"])


def downgrade() -> None:
    op.create_table(
        "job_files",
        *_of_any("job_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_files_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_files")),
    )
    op.create_index(op.f("ix_job_files_job_id"), "job_files", ["job_id"])
    op.create_index(op.f("ix_job_files_tenant_id"), "job_files", ["tenant_id"])
    named = ["id", "tenant_id", "job_id", "step", *_FILE]
    _copy("result_files", [*_OF_JOB, *_FILE], "job_files", named, owners="jobs")
    for subject, owners in _REPORTS.items():
        owner, table = f"{subject}_id", f"{subject}_files"
        reference = op.f(f"fk_{table}_{owner}")
        op.create_table(
            table,
            *(column for column in _of_any(owner) if column.name in {owner, *_FILE}),
            sa.ForeignKeyConstraint([owner], [f"{owners}.id"], name=reference, ondelete="CASCADE"),
            sa.PrimaryKeyConstraint(owner, "filename", name=op.f(f"pk_{table}")),
        )
        _copy("result_files", ["subject_id", *_FILE], table, [owner, *_FILE], owners=owners)
    op.drop_table("result_files")


def _of_any(owner: str = "subject_id") -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column(owner, sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=512), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("content_type", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
    ]


def _copy(from_: str, columns: list[str], to: str, named: list[str], *, owners: str | None = None) -> None:
    """Insert rows of one table into another; `owners`: only files of subjects of that table."""
    source = _table(from_, columns)
    query = sa.select(*source.c)
    if owners is not None:
        query = query.where(source.c.subject_id.in_(sa.select(_table(owners, ["id"]).c.id)))
    op.execute(sa.insert(_table(to, named)).from_select(named, query))


def _table(name: str, columns: list[str]) -> sa.TableClause:
    return sa.table(name, *(sa.column(column) for column in columns))


def _new_id(created_at: float) -> str:
    """An id as files have it: the time in milliseconds, then 80 random bits."""
    number = int(created_at * 1000) << 80 | secrets.randbits(80)
    return "file_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))
