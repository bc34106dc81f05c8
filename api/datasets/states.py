from __future__ import annotations

from enum import StrEnum


class DatasetStatus(StrEnum):
    """A data set is `validating` until its one validation ends; then `ready` or `invalid` for good."""

    VALIDATING = "validating"
    READY = "ready"
    INVALID = "invalid"


ALLOWED: dict[DatasetStatus, frozenset[DatasetStatus]] = {
    DatasetStatus.VALIDATING: frozenset({DatasetStatus.READY, DatasetStatus.INVALID}),
    DatasetStatus.READY: frozenset(),
    DatasetStatus.INVALID: frozenset(),
}
