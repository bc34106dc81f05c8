"""The kinds of work: what the API, the sweep and the workers must know of each, and the one table of all.

A kind of another package names itself in the entry point group `difftune.kinds`, installed wherever the API, the sweep
or a worker runs; the value is an object of a class below. Nothing here loads what carries the work out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from functools import cache
from pkgutil import resolve_name
from typing import Any, ClassVar

from sqlalchemy.orm import Session

from api.errors import NotYetError
from api.work.endings import Outcome, Settled
from api.work.models import WorkItem
from difftune_core.config.outside import brought

GROUP = "difftune.kinds"
_BUILT_IN = (
    "api.uploads.kind:UPLOADS",
    "api.datasets.kind:VALIDATION",
    "api.jobs.kind:TRAINING",
    "api.retention_sets.kind:RETENTION_SETS",
    "api.comparisons.kind:COMPARISONS",
    "api.analyses.kind:ANALYSES",
    "api.vision_files.kind:VISION_FILES",
    "api.images.kind:GENERATIONS",
)


class Owner(ABC):
    """Whatever owns objects in the store: a folder of keys `FOLDER/ID/...`, which the sweep looks through."""

    folder: ClassVar[str]
    noun: ClassVar[str]
    """What a subject of the kind is called in messages."""

    def named(self, session: Session, subject_id: str | None = None) -> dict[str, str | None]:
        """Objects that rows name beside the result files, of one subject or of all, with their sha256 where known.

        What this leaves out the sweep deletes. A kind that keeps its objects as result files has nothing to add.
        """
        del session, subject_id
        return {}

    def brought_bytes(self, session: Session, tenant_id: str) -> int:
        """Return what the tenant has brought and keeps, which counts against its quota; what work has made does not."""
        del session, tenant_id
        return 0

    def holder_of(self, session: Session, key: str) -> str:
        """Whose an object is, in words."""
        del session
        return f"{self.noun} {key.split('/')[1]}"


class Kind(Owner):
    """One kind of work."""

    name: ClassVar[str]
    """Name of the kind, as work items state it."""
    child: ClassVar[str]
    """What the kind's child process is called in messages."""
    activity: ClassVar[str]
    """`module:class` of the `worker.kinds.base.Activity` that carries it out; only workers load it."""
    uses: ClassVar[frozenset[str]] = frozenset()
    """Prefixes of the ids of what the kind's subjects may need: `ds`, `ckpt`, `rset`, `ftjob`."""
    router: ClassVar[str | None] = None
    """`module:router` of the kind's routes, for a kind of another package; only the API loads it."""

    def users(self, session: Session, tenant_id: str, ids: Collection[str]) -> list[str]:
        """Ids of the tenant's subjects that keep one of `ids` from being deleted. Asked of kinds that `uses` it."""
        del session, tenant_id, ids
        return []

    @abstractmethod
    def admit(self, session: Session, item: WorkItem) -> bool:
        """Tell the subject that a worker has claimed its item; whether it still wants the work.

        Raises:
            NoResultFound: there is no such subject any more.
        """

    def got_to(self, session: Session, subject_id: str) -> int | None:
        """Tell how far the subject is, of kinds whose attempts go on where the last one ended."""
        del session, subject_id
        return None

    @abstractmethod
    def settle(self, session: Session, subject_id: str, outcome: Outcome) -> Settled:
        """Move the subject on by an attempt's outcome. The item is locked; lock the subject.

        Raises:
            NoResultFound: there is no such subject any more.
        """

    def progressed(self, session: Session, subject_id: str, *, done: int, total: int) -> None:
        """Note that `done` of `total` units are there."""

    def moved(self, session: Session, other: Any) -> None:
        """Hear that a subject of some kind has a new status, in this transaction: what waited for it may go on."""


_registered: list[Owner] = []


def register(added: Owner) -> None:
    """Add a kind in this process; an entry point does it in every process.

    Raises:
        ValueError: its name or its folder is taken.
    """
    _registered.append(added)
    _table.cache_clear()
    try:
        _table()
    except ValueError:
        _registered.remove(added)
        _table.cache_clear()
        raise


def forget() -> None:
    """Look for entry points anew when a kind is asked for next."""
    _table.cache_clear()


def owners() -> tuple[Owner, ...]:
    """Return all that owns objects, kinds of work among them."""
    return tuple(_table().values())


def owner(folder: str) -> Owner:
    """Whoever owns a folder.

    Raises:
        KeyError: nobody that this process knows.
    """
    return _table()[folder]


def kinds() -> tuple[Kind, ...]:
    """Return all kinds of work."""
    return tuple(each for each in owners() if isinstance(each, Kind))


def kind_of(name: str) -> Kind:
    """The kind of this name.

    Raises:
        KeyError: none that this process knows.
    """
    return {kind.name: kind for kind in kinds()}[name]


def users_of(session: Session, tenant_id: str, *ids: str) -> dict[str, list[str]]:
    """Return what keeps things from being deleted, by the folder of each kind that may use such a thing, or none."""
    prefixes = {id_.partition("_")[0] for id_ in ids}
    return {kind.folder: kind.users(session, tenant_id, ids) for kind in kinds() if kind.uses & prefixes}


def refuse_used(session: Session, tenant_id: str, ids: Collection[str], code: str, what: str) -> None:
    """Refuse to delete things that are used; `what` begins the message: "The checkpoint ckpt_1 is".

    Raises:
        NotYetError: with the ids of the users, by their kinds.
    """
    users = users_of(session, tenant_id, *ids)
    named, extra = [id_ for found in users.values() for id_ in found], dict[str, Any](users)
    if named:
        raise NotYetError(code, f"{what} used by {', '.join(named[:5])}.", **extra)


def announce(session: Session, subject: Any) -> None:
    """Tell all kinds that a subject, which the caller has locked, has a new status."""
    for kind in kinds():
        kind.moved(session, subject)


@cache
def _table() -> dict[str, Owner]:
    found: dict[str, Owner] = {}
    names: set[str] = set()
    for each in _all():
        if each.folder in found:
            raise ValueError(f"two kinds of work own the folder {each.folder!r}")
        if isinstance(each, Kind) and each.name in names:
            raise ValueError(f"two kinds of work are called {each.name!r}")
        names |= {each.name} if isinstance(each, Kind) else set()
        found[each.folder] = each
    return found


def _all() -> Iterator[Owner]:
    yield from (resolve_name(path) for path in _BUILT_IN)
    yield from brought(GROUP, Owner)
    yield from _registered
