"""Comparisons of methods: their jobs and the files of their reports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "comparisons",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("methods", sa.JSON(), nullable=False),
        sa.Column("seeds", sa.JSON(), nullable=False),
        sa.Column("evaluation", sa.JSON(), nullable=False),
        sa.Column("num_threads", sa.Integer(), nullable=True),
        sa.Column("training_file", sa.String(length=40), nullable=False),
        sa.Column("validation_file", sa.String(length=40), nullable=True),
        sa.Column("suffix", sa.String(length=64), nullable=True),
        sa.Column("metadata", sa.JSON(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.String(length=4000), nullable=True),
        sa.Column("error_param", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("cancel_requested_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_comparisons_status")
        ),
        sa.ForeignKeyConstraint(["training_file"], ["datasets.id"], name=op.f("fk_comparisons_training_file")),
        sa.ForeignKeyConstraint(["validation_file"], ["datasets.id"], name=op.f("fk_comparisons_validation_file")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparisons")),
    )
    with op.batch_alter_table("comparisons", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_comparisons_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "comparison_jobs",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("comparison_id", sa.String(length=40), nullable=False),
        sa.Column("method", sa.String(length=40), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["comparison_id"], ["comparisons.id"], name=op.f("fk_comparison_jobs_comparison_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_comparison_jobs_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_comparison_jobs")),
    )
    with op.batch_alter_table("comparison_jobs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_comparison_jobs_comparison_id"), ["comparison_id"], unique=False)

    op.create_table(
        "comparison_files",
        sa.Column("comparison_id", sa.String(length=40), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=512), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("content_type", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["comparison_id"], ["comparisons.id"], name=op.f("fk_comparison_files_comparison_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("comparison_id", "filename", name=op.f("pk_comparison_files")),
    )


def downgrade() -> None:
    op.drop_table("comparison_files")
    with op.batch_alter_table("comparison_jobs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_comparison_jobs_comparison_id"))

    op.drop_table("comparison_jobs")
    with op.batch_alter_table("comparisons", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_comparisons_tenant_id"))

    op.drop_table("comparisons")
