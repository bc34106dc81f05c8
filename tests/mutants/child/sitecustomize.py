"""Begins the notes of a process that a test started; on the path only while `make mutants` looks who runs what."""

from __future__ import annotations

import atexit
import os
from pathlib import Path
from typing import NoReturn

from tests.mutants.notes import RUNNING, begin

_FOLDER = Path(__file__).resolve().parents[3] / "notes"  # beside the packages; a trainer's environment names no folder


def _end() -> None:
    _notes.stop()
    _notes.save()


def _exit(status: int) -> NoReturn:
    _end()
    _leave(status)


_leave = os._exit  # by which some processes end, past whatever waits for their end
os._exit = _exit
_notes = begin(_FOLDER, f"child-{os.getpid()}", (_FOLDER / RUNNING).read_text(encoding="utf-8"))
atexit.register(_end)
