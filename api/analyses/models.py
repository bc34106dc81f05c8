from __future__ import annotations

from functools import cached_property
from typing import Any

from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base
from api.subjects.models import Counted, OwnedSubject, one_of
from api.subjects.states import Status
from difftune_core.config.analysis import ChainOfForgetting
from difftune_core.config.stored import read_stored


class Analysis(Counted, OwnedSubject, Base):
    """A look at tuned models as a user asked for it, and how it stands."""

    __tablename__ = "analyses"
    __table_args__ = (one_of(Status),)
    noun = "analysis"

    type: Mapped[str] = mapped_column(String(32))
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The complete config of the analysis' type (`difftune_core.config.analysis`)."""
    checkpoints: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """`[{"id", "name", "job_id", "step"}]`, in the order of the request; names are those of the report."""
    training_file: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    validation_file: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"), index=True)

    @property
    def needs(self) -> set[str]:
        """Ids of the data sets and checkpoints that the analysis works on."""
        datasets = {id_ for id_ in (self.training_file, self.validation_file) if id_}
        return datasets | {entry["id"] for entry in self.checkpoints}

    @cached_property
    def chain(self) -> ChainOfForgetting:
        """`config` as this version reads it; it was judged when it was submitted, and is not judged again."""
        return read_stored(ChainOfForgetting, self.config)
