"""Small pictures of a data set's images: the object that has them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("previews_key", sa.String(length=512), nullable=True))


def downgrade() -> None:
    op.drop_column("datasets", "previews_key")
