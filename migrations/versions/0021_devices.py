"""What workers train on: the device of an offer and of an attempt."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("offers", sa.Column("device", sa.String(length=128), nullable=True))
    op.add_column("offers", sa.Column("device_memory", sa.BigInteger(), nullable=True))
    op.add_column("attempts", sa.Column("device", sa.String(length=128), nullable=True))


def downgrade() -> None:
    op.drop_column("attempts", "device")
    op.drop_column("offers", "device_memory")
    op.drop_column("offers", "device")
