"""Memory of a trainer and all its processes: it leads a session of its own, so that they can be told by it."""

from __future__ import annotations

import os
from pathlib import Path

_SESSION, _RESIDENT = 3, 21  # fields of /proc/PID/stat behind the name, from 0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(session_id: int) -> int:
    """Memory that the processes of a session hold now; what they share counts for each. 0 without a /proc."""
    return sum(_resident_pages(path, session_id) for path in Path("/proc").glob("[0-9]*/stat")) * _PAGE_BYTES


def _resident_pages(path: Path, session_id: int) -> int:
    try:
        fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0
    return int(fields[_RESIDENT]) if int(fields[_SESSION]) == session_id else 0
