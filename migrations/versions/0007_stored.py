"""Uploads that know what they gave links for; data sets that are imported or have a stated sha256."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("upload_parts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("announced", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("signed_at", sa.Double(), nullable=True))
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.add_column(sa.Column("expected_sha256", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("source", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.drop_column("source")
        batch_op.drop_column("expected_sha256")
    with op.batch_alter_table("upload_parts", schema=None) as batch_op:
        batch_op.drop_column("signed_at")
        batch_op.drop_column("announced")
