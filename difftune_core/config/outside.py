"""What other distributions bring: objects behind entry points, and code that a table names as text."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def brought(group: str, kind: type[Kind]) -> Iterator[Kind]:
    """Load what the entry points of a group name.

    Raises:
        RuntimeError: one is of another kind, or cannot be loaded; the service does not start half known.
    """
    for point in entry_points(group=group):
        try:
            found = point.load()
        except Exception as error:
            raise RuntimeError(f"the entry point {point.name!r} of {group} cannot be loaded: {error}") from error
        if not isinstance(found, kind):
            message = f"the entry point {point.name!r} of {group} is no {kind.__name__}: {found!r}"
            raise RuntimeError(message)  # noqa: TRY004  whoever installed it is to read it
        yield found


def load(place: str) -> Any:
    """Import the object at `module:object`; whatever its module raises is raised."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
