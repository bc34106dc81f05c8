"""What workers tell of their GPUs: memory, use, temperature."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gpu_uses",
        sa.Column("worker_id", sa.String(length=128), nullable=False),
        sa.Column("gpu", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("memory_used", sa.BigInteger(), nullable=False),
        sa.Column("memory_total", sa.BigInteger(), nullable=False),
        sa.Column("utilization", sa.Double(), nullable=True),
        sa.Column("temperature", sa.Double(), nullable=True),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", "gpu", name=op.f("pk_gpu_uses")),
    )
    op.create_index(op.f("ix_gpu_uses_seen_at"), "gpu_uses", ["seen_at"])


def downgrade() -> None:
    op.drop_table("gpu_uses")
