"""Jobs that begin with a checkpoint of another job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("start_checkpoint", sa.String(length=40), nullable=True))
    op.add_column("jobs", sa.Column("lineage", sa.JSON(), nullable=True))
    op.create_index(op.f("ix_jobs_start_checkpoint"), "jobs", ["start_checkpoint"])


def downgrade() -> None:
    op.drop_index(op.f("ix_jobs_start_checkpoint"), table_name="jobs")
    op.drop_column("jobs", "lineage")
    op.drop_column("jobs", "start_checkpoint")
