"""Items that take several slots of one worker, and which workers there are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("work_items", sa.Column("slots", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("work_items", sa.Column("held_by", sa.String(length=128), nullable=True))
    op.add_column("work_items", sa.Column("held_until", sa.Double(), nullable=True))
    op.create_table(
        "offers",
        sa.Column("worker_id", sa.String(length=128), nullable=False),
        sa.Column("gpu_slots", sa.Integer(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_offers")),
    )
    op.create_index(op.f("ix_offers_seen_at"), "offers", ["seen_at"])


def downgrade() -> None:
    op.drop_table("offers")
    op.drop_column("work_items", "held_until")
    op.drop_column("work_items", "held_by")
    op.drop_column("work_items", "slots")
