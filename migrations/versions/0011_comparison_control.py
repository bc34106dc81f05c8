"""Comparisons of ControlNets: what every job of one is taught to follow."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("comparisons", sa.Column("control", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("comparisons", "control")
