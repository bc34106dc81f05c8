"""Checkpoints beyond the last few are collected, but not while they are downloaded."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("checkpoints", sa.Column("linked_until", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("checkpoints", "linked_until")
