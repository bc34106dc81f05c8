"""When a key ends by itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("expires_at", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("api_keys", "expires_at")
