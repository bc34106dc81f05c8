"""A data set's images, a page of them at a time, with their small pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from sqlalchemy.orm import Session

from api.datasets.models import Dataset
from api.datasets.previews import Previews, Role, open_previews, picture
from api.deps import Services
from api.errors import not_found
from api.storage import StoreError
from api.subjects.repository import get
from api.web.backend import Backend
from difftune_core.config.previews import Entry

ON_PAGE = 60
_CLASSES = 100


@dataclass
class Items:
    """A page of images."""

    data: list[dict[str, Any]] = field(default_factory=list)
    """The API's items, each with its `place`, and with what there is a small picture of as `shown`."""
    place: int | None = None
    """The first one's place among all; None where places are not known."""
    total: int = 0
    firsts: list[int] = field(default_factory=list)
    """Where the first classes begin, in order of their names."""
    following: str | None = None
    """The query of the page that follows."""

    @property
    def before(self) -> int | None:
        """The place where the page before begins."""
        return max(0, self.place - ON_PAGE) if self.place else None


async def items_of(request: Request, api: Backend, dataset_id: str, *, place: int, after: str | None) -> Items:
    """The images from a place on. Without previews places are not known: those that follow the item `after`.

    Raises:
        RefusedError: the store has lost them, or there is no such item.
    """
    used: Services = request.app.state.services
    tenant: str = request.state.principal.tenant_id
    key = await _key(used, tenant, dataset_id)
    found = await used.units.other(tenant, lambda: _look(used, key, place)) if key else None
    if found is None:
        listed = await api.get("datasets", dataset_id, "items", limit=ON_PAGE, after=after)
        return Items(listed["data"], following=f"after={listed['last_id']}" if listed["has_more"] else None)
    opened, entries, firsts = found
    place = min(place, max(0, opened.num_items - 1))
    since = f"item_{entries[0].line}" if place else None
    listed = await api.get("datasets", dataset_id, "items", limit=ON_PAGE, after=since)
    for number, (item, entry) in enumerate(zip(listed["data"], entries[1 if place else 0 :], strict=False)):
        item["place"] = place + number
        item["shown"] = [role for role, size in zip(("image", "control"), entry[2::2], strict=True) if size]
    following = f"place={place + ON_PAGE}" if listed["has_more"] else None
    return Items(listed["data"], place, opened.num_items, firsts, following)


async def preview(used: Services, tenant: str, dataset_id: str, place: int, role: Role) -> tuple[bytes, str]:
    """The small picture of an image or its control, and its media type.

    Raises:
        NotFoundError: there is none.
    """
    key = await _key(used, tenant, dataset_id)

    def read() -> tuple[bytes, str]:
        try:
            return picture(used.store, key or "", place, role)
        except FileNotFoundError:
            raise not_found("preview", str(place)) from None

    if key is None:
        raise not_found("preview", str(place))
    return await used.units.other(tenant, read)


async def some(used: Services, tenant: str, dataset_id: str, count: int) -> list[int]:
    """Places of some images that have a small picture: of each of the first classes.

    Raises:
        NotFoundError: there is no such data set.
    """
    key = await _key(used, tenant, dataset_id)

    def look() -> list[int]:
        found = _look(used, key or "", 0)
        if found is None:
            return []
        opened, _, firsts = found
        begun = firsts[:count] or [0]
        each = -(-count // len(begun))
        entries = {
            first + number: entry
            for first in begun
            for number, entry in enumerate(opened.entries(used.store, first, first + each))
        }
        return sorted(place for place, entry in entries.items() if entry.image_bytes)[:count]

    return await used.units.other(tenant, look) if key else []


async def _key(used: Services, tenant: str, dataset_id: str) -> str | None:
    def look(session: Session) -> str | None:
        return get(session, Dataset, tenant, dataset_id).previews_key

    return await used.units.read(tenant, look)


def _look(used: Services, key: str, place: int) -> tuple[Previews, list[Entry], list[int]] | None:
    """What is known of the items of a page, that before the first one included; None where there is nothing to see."""
    try:
        opened = open_previews(used.store, key)
        if opened is None:
            return None
        place = min(place, max(0, opened.num_items - 1))
        entries = opened.entries(used.store, max(0, place - 1), place + ON_PAGE)
        return opened, entries, list(opened.firsts(used.store, _CLASSES))
    except (FileNotFoundError, StoreError):
        return None
