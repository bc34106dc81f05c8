"""The examples of docs/extending.md as distributions of this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import outside


@contextmanager
def documented(section: str, package: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of Python's path, below `root`, with the package that a section of the page describes."""
    site = root / "site"
    outside.install(site, section)
    monkeypatch.syspath_prepend(site)
    yield site
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[module]
