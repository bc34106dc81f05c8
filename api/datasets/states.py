from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class DatasetStatus(StrEnum):
    """A data set is `validating` until its one validation ends; then `ready` or `invalid` for good."""

    VALIDATING = "validating"
    READY = "ready"
    INVALID = "invalid"


ALLOWED: Mapping[str, frozenset[str]] = {
    DatasetStatus.VALIDATING: frozenset({DatasetStatus.READY, DatasetStatus.INVALID}),
    DatasetStatus.READY: frozenset(),
    DatasetStatus.INVALID: frozenset(),
}
