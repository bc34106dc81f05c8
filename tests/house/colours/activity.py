from __future__ import annotations

import sys
from pathlib import Path

from colours.kind import ColourCount

from api.datasets.models import Dataset
from worker.inputs import dataset_arguments
from worker.kinds.base import Activity


class Counting(Activity):
    """One attempt at a count."""

    def program(self) -> list[str]:
        """A program of our own."""
        return [sys.executable, str(Path(__file__).with_name("child.py"))]

    def prepare(self) -> list[str]:
        """The data set's file, fetched if this node lacks it."""
        with self.run.tools.database.read() as session:
            count = session.get_one(ColourCount, self.run.lease.subject_id)
            dataset = session.get_one(Dataset, count.config["training_file"])
        return [*dataset_arguments(self.run, "data", dataset), "--out", str(self.run.workspace.out)]
