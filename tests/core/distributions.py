"""The examples of docs/extending.md as distributions, laid out as an installer would."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_DOC = Path(__file__).parents[2] / "docs" / "extending.md"


@contextmanager
def documented(section: str, package: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of Python's path, below `root`, with the package that a section of the page describes."""
    text = _DOC.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    site = root / "site"
    (site / package).mkdir(parents=True)
    for name, source in re.findall(rf"```python\n# {package}/(\w+)\.py\n(.*?)```", text, re.DOTALL):
        (site / package / f"{name}.py").write_text(source)
    ((group, points),) = tomllib.loads(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0])["project"][
        "entry-points"
    ].items()
    folder = site / f"{package}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 1.0\n")
    lines = [f"{key} = {value}\n" for key, value in points.items()]
    (folder / "entry_points.txt").write_text(f"[{group}]\n{''.join(lines)}")
    monkeypatch.syspath_prepend(site)
    yield site
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[module]
