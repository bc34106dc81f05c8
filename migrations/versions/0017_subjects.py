"""Retention artifacts and analyses have the columns that every subject has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_SHORT, _LONG = sa.String(length=2000), sa.String(length=4000)


def upgrade() -> None:
    op.execute("ALTER TABLE retention_artifacts RENAME COLUMN settled_at TO finished_at")
    op.add_column("retention_artifacts", sa.Column("started_at", sa.Double(), nullable=True))
    op.add_column("retention_artifacts", sa.Column("error_param", sa.String(length=255), nullable=True))
    for table in ("retention_artifacts", "analyses"):
        with op.batch_alter_table(table) as batch_op:
            batch_op.alter_column("error_message", existing_type=_SHORT, type_=_LONG)


def downgrade() -> None:
    for table in ("retention_artifacts", "analyses"):
        rows = sa.table(table, sa.column("error_message"))
        op.execute(sa.update(rows).values(error_message=sa.func.substr(rows.c.error_message, 1, _SHORT.length)))
        with op.batch_alter_table(table) as batch_op:
            batch_op.alter_column("error_message", existing_type=_LONG, type_=_SHORT)
    op.drop_column("retention_artifacts", "error_param")
    op.drop_column("retention_artifacts", "started_at")
    op.execute("ALTER TABLE retention_artifacts RENAME COLUMN finished_at TO settled_at")
