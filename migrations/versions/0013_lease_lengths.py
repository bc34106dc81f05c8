"""The length of a lease beside its end: a clock that was set back shows in one that lies further ahead."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("work_items", sa.Column("lease_s", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("work_items", "lease_s")
