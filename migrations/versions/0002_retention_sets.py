"""Retention sets: artifacts that tenants share, the rows that name them, and the jobs that use them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retention_artifacts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("live_key", sa.String(length=128), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("base_digest", sa.String(length=64), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=True),
        sa.Column("dataset_id", sa.String(length=40), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=512), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.String(length=2000), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("settled_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_retention_artifacts_status"),
        ),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_retention_artifacts_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retention_artifacts")),
        sa.UniqueConstraint("live_key", name=op.f("uq_retention_artifacts_live_key")),
    )
    with op.batch_alter_table("retention_artifacts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_retention_artifacts_dataset_id"), ["dataset_id"], unique=False)

    op.create_table(
        "retention_sets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("artifact_id", sa.String(length=40), nullable=False),
        sa.Column("training_file", sa.String(length=40), nullable=True),
        sa.Column("metadata", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("cancelled_at", sa.Double(), nullable=True),
        sa.Column("deleted_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["retention_artifacts.id"], name=op.f("fk_retention_sets_artifact_id")
        ),
        sa.ForeignKeyConstraint(["training_file"], ["datasets.id"], name=op.f("fk_retention_sets_training_file")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retention_sets")),
    )
    with op.batch_alter_table("retention_sets", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_retention_sets_artifact_id"), ["artifact_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_retention_sets_tenant_id"), ["tenant_id"], unique=False)

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("retention_set", sa.String(length=40), nullable=True))
        batch_op.add_column(sa.Column("retention_digest", sa.String(length=64), nullable=True))
        batch_op.create_index(batch_op.f("ix_jobs_retention_set"), ["retention_set"], unique=False)
        batch_op.create_foreign_key(batch_op.f("fk_jobs_retention_set"), "retention_sets", ["retention_set"], ["id"])


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_jobs_retention_set"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_jobs_retention_set"))
        batch_op.drop_column("retention_digest")
        batch_op.drop_column("retention_set")

    op.drop_table("retention_sets")
    op.drop_table("retention_artifacts")
