"""What a trainer prints, on its way to the user: bounded, without secrets, while it runs."""

from __future__ import annotations

import re
import time
from pathlib import Path

import structlog

from api.logs.models import LogChunk
from api.work.repository import LeaseLostError
from api.work.states import WorkKind
from worker.run import Run

_INTERVAL_S = 2.0
_CHUNK_BYTES = 16 << 10
_HEAD_BYTES = 192 << 10
_TAIL_BYTES = 64 << 10
_SECRETS = [
    (re.compile(r"dft_[0-9A-Z]{26}_[0-9a-f]{40}_[0-9a-f]{8}"), "dft_***"),
    (re.compile(r"(\w+://[^\s:/@]*):[^\s@/]+@"), r"\1:***@"),
    (
        re.compile(r"(?i)\b(bearer|password|secret|token|api[_-]?key|access[_-]?key)\b(\s*[=:]\s*|\s+)\S{8,}"),
        r"\1\2***",
    ),
    (re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"), "***"),
]
log = structlog.get_logger(__name__)


class LogShipper:
    """One attempt's log file, piece by piece into rows. A piece that cannot be written stops nothing.

    Of jobs alone, whose logs users can ask for; what else a node works on has its log in the node's data folder.
    """

    def __init__(self, run: Run, path: Path) -> None:
        """`path` is the attempt's own: it is read from its beginning."""
        self._run = run
        self._path = path
        self._is_job = run.lease.kind == WorkKind.TRAIN
        self._offset = 0
        self._number = 0
        self._shipped_at = time.monotonic()

    def ship_if_due(self) -> None:
        """Ship what has come, unless that was done just now."""
        if self._is_job and time.monotonic() - self._shipped_at >= _INTERVAL_S:
            self._ship(_HEAD_BYTES, whole_lines=True)

    def finish(self) -> None:
        """Ship the rest; of a long one its end, and how much was left out."""
        if not self._is_job:
            return
        size = self._path.stat().st_size if self._path.exists() else 0
        self._ship(_HEAD_BYTES, whole_lines=False)
        skipped = size - _TAIL_BYTES - self._offset
        if skipped > 0:
            self._offset += skipped
            self._write(f"\n[{skipped} bytes are left out here]\n")
        self._ship(size, whole_lines=False)

    def _ship(self, until: int, *, whole_lines: bool) -> None:
        self._shipped_at = time.monotonic()
        while self._offset < until and (chunk := self._next(until, whole_lines=whole_lines)):
            if not self._write(self._clean(chunk)):
                return
            self._offset += len(chunk)

    def _next(self, until: int, *, whole_lines: bool) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(min(_CHUNK_BYTES, until - self._offset))
        except FileNotFoundError:
            return b""
        end = data.rfind(b"\n") + 1
        is_full = len(data) == _CHUNK_BYTES
        return data[:end] if end and (whole_lines or is_full) else data if is_full or not whole_lines else b""

    def _clean(self, chunk: bytes) -> str:
        text = chunk.decode(errors="replace").replace("\x00", "")
        settings = self._run.tools.settings
        for folder, shown in ((self._run.workspace.folder, "."), (settings.data_dir, "DATA")):
            text = text.replace(str(folder), shown)
        for pattern, instead in _SECRETS:
            text = pattern.sub(instead, text)
        return text

    def _write(self, text: str) -> bool:
        lease = self._run.lease
        chunk = LogChunk(
            job_id=lease.subject_id, attempt=lease.fence, number=self._number, text=text, created_at=time.time()
        )
        try:
            with self._run.unit() as (session, _):
                session.add(chunk)
        except LeaseLostError:
            raise
        except Exception:  # whatever a database throws: a log is worth no job
            log.warning("log_not_shipped", exc_info=True)
            return False
        self._number += 1
        return True
