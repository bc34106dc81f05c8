from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

from api.findings import Finding, bad, good, poor
from api.settings import Settings
from api.storage import ObjectStore, StoreError, open_store
from api.storage.s3 import S3Store

_CHECK = "object store"
_CLOCK = "clock"
_POOR_SKEW_S = 5.0
_REFUSED_SKEW_S = 900.0  # S3 refuses requests that were signed further from its own time


def look(settings: Settings) -> Iterator[Finding]:
    """Find out whether an object can be written, read, listed and deleted, and whether the store's clock is ours."""
    where = settings.store_url or str(settings.data_dir / "objects")
    if settings.store_url is None and not (settings.data_dir / "objects").is_dir():
        yield good(_CHECK, f"{where} is made at the first start")
        return
    try:
        store = open_store(settings)
        store.check()
    except (StoreError, ValueError, OSError) as error:
        yield bad(_CHECK, f"{where}: {error}", "Check DIFFTUNE_STORE_URL and DIFFTUNE_S3_*; does the store run?")
        return
    try:
        fault = _probed(store)
    except OSError as error:
        fault = str(error)
    yield bad(_CHECK, f"{where}: {fault}") if fault else good(_CHECK, f"{where}: written, read, listed and deleted")
    if isinstance(store, S3Store):
        yield from _clock(store)


def _probed(store: ObjectStore) -> str | None:
    """Return what was wrong with an object that came and went, or None."""
    key, content = f"doctor/{secrets.token_hex(8)}", secrets.token_bytes(1024)
    store.put_stream(key, [content])
    try:
        if b"".join(store.read(key)) != content:
            return "an object did not come back as it was written"
        if b"".join(store.read(key, 10, 20)) != content[10:20]:
            return "a range of an object is not what was asked for"
        if key not in [found.key for found in store.list("doctor/")]:
            return "an object that was written is not listed"
    finally:
        store.delete(key)
    try:
        store.stat(key)
    except FileNotFoundError:
        return None
    return "an object that was deleted is still there"


def _clock(store: S3Store) -> Iterator[Finding]:
    ahead_s = store.clock_s() - time.time()
    seen = f"the store's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
    if abs(ahead_s) > _REFUSED_SKEW_S:
        yield bad(_CLOCK, f"{seen}: signed requests are refused", "Set the clocks by NTP.")
    elif abs(ahead_s) > _POOR_SKEW_S:
        yield poor(_CLOCK, f"{seen}: links expire early or late", "Set the clocks by NTP.")
    else:
        yield good(_CLOCK, "this machine and the store agree about the time")
