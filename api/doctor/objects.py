from __future__ import annotations

import random
from collections.abc import Iterator

from sqlalchemy import inspect

from api.db import Database
from api.findings import Finding, bad, good
from api.settings import Settings
from api.storage import ObjectStore, open_store
from api.subjects.references import named_keys, owner_of

_CHECK = "objects"
_SAMPLE = 100
_SHOWN = 5


def look(settings: Settings, *, every: bool = False) -> Iterator[Finding]:
    """Find out whether the store has the objects that rows name: a random sample of them, or `every` one."""
    if settings.database_url is None and not (settings.data_dir / "difftune.sqlite3").exists():
        return
    database = Database(settings.database)
    try:
        if not inspect(database.engine).has_table("datasets"):
            return
        with database.read() as session:
            keys = sorted(named_keys(session))
        looked = keys if every else sorted(random.sample(keys, min(_SAMPLE, len(keys))))
        lost = list(_lost(open_store(settings), looked)) if looked else []
        with database.read() as session:
            told = [f"{key} of {owner_of(session, key)}" for key in lost[:_SHOWN]]
    finally:
        database.close()
    of = f"{len(looked)} objects" if len(looked) == len(keys) else f"{len(looked)} of {len(keys)} objects, at random,"
    if not lost:
        yield good(_CHECK, f"{of} are in the store")
        return
    more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
    advice = "Restore them (docs/storage.md), or delete what they belong to. difftune doctor --all looks at every one."
    yield bad(_CHECK, f"of {of} {len(lost)} are missing: {', '.join(told)}{more}", advice)


def _lost(store: ObjectStore, keys: list[str]) -> Iterator[str]:
    for key in keys:
        try:
            store.stat(key)
        except FileNotFoundError:
            yield key
