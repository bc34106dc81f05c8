"""Pause and resume, fair shares between tenants, requests that take effect once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("scope", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "scope", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])
    op.create_index("ix_work_items_served", "work_items", ["slot", "claimed_at"])
    op.add_column("attempts", sa.Column("changed", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("base_digest", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "base_digest")
    op.drop_column("attempts", "changed")
    op.drop_index("ix_work_items_served", table_name="work_items")
    op.drop_table("idempotency_keys")
