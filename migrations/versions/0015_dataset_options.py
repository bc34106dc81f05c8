"""What the owner of a data set says of it: bad files, splits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("options", sa.JSON(), nullable=True))
    op.add_column("uploads", sa.Column("options", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("uploads", "options")
    op.drop_column("datasets", "options")
