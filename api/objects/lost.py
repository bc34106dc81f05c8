"""Objects that rows name and the store has no more: looked for before an answer begins, and told with their owner."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from api.errors import GoneError
from api.storage import ObjectStore


def look_for(store: ObjectStore, keys: Iterable[str], owner: str) -> None:
    """Look whether the store has all of these. `owner` says whose they are: "the data set ds_1".

    Raises:
        GoneError: `object_missing`, it lacks one.
    """
    for key in keys:
        try:
            store.stat(key)
        except FileNotFoundError:
            message = f"The object {key} of {owner} is not in the store any more."
            raise GoneError("object_missing", message, key=key) from None


def link_to(store: ObjectStore, key: str, owner: str, **link: Any) -> str:
    """A link to an object that is there; `link` as `ObjectStore.url_get` takes it.

    Raises:
        GoneError: `object_missing`, it is not.
    """
    look_for(store, [key], owner)
    return store.url_get(key, **link)
