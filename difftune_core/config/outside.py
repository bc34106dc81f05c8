"""What other distributions bring: objects behind entry points, and code that a table names as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, ClassVar, TypeVar

Kind = TypeVar("Kind")


@dataclass(frozen=True, kw_only=True)
class Named:
    """Something that configs call by its name."""

    noun: ClassVar[str]
    """What such a thing is called in messages."""
    name: str
    """What configs call it."""


NamedKind = TypeVar("NamedKind", bound=Named)


def loaded(group: str) -> Iterator[tuple[str, Any]]:
    """Load the entry points of a group: their names, and what they name.

    Raises:
        RuntimeError: one cannot be loaded; the service does not start half known.
    """
    for point in entry_points(group=group):
        try:
            yield point.name, point.load()
        except Exception as error:
            raise RuntimeError(f"the entry point {point.name!r} of {group} cannot be loaded: {error}") from error


def brought(group: str, kind: type[Kind]) -> Iterator[Kind]:
    """Load what the entry points of a group name.

    Raises:
        RuntimeError: one is of another kind, or cannot be loaded.
    """
    for name, found in loaded(group):
        if not isinstance(found, kind):
            message = f"the entry point {name!r} of {group} is no {kind.__name__}: {found!r}"
            raise RuntimeError(message)  # noqa: TRY004  whoever installed it is to read it
        yield found


def by_name(own: Iterable[NamedKind], group: str, kind: type[NamedKind]) -> dict[str, NamedKind]:
    """Return this package's own things of a kind and those that entry points bring, by name.

    Raises:
        RuntimeError: as `brought`, or a name is taken.
    """
    found = {each.name: each for each in own}
    for each in brought(group, kind):
        if each.name in found:
            raise RuntimeError(f"the {kind.noun} {each.name!r} is there twice")
        found[each.name] = each
    return found


def load(place: str) -> Any:
    """Import the object at `module:object`; whatever its module raises is raised."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
