"""When a key was used last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("last_used_at", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("api_keys", "last_used_at")
