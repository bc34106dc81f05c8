"""Distributions of others: what `docs/extending.md` tells people to write, put where Python finds it as after pip."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

DOC = Path(__file__).parents[1] / "docs" / "extending.md"
_FILE = re.compile(r"```python\n# (\w+/\w+\.py)\n(.*?)```", re.DOTALL)
_POINTS = re.compile(r"```toml\n(.*?)```", re.DOTALL)


def section(heading: str) -> str:
    """What the page says under a heading."""
    return DOC.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def files_of(heading: str) -> dict[str, str]:
    """The modules that a section shows, by their paths."""
    return dict(_FILE.findall(section(heading)))


def install(site: Path, heading: str) -> None:
    """Put the package of a section into a folder of Python's path, word for word."""
    ((group, points),) = tomllib.loads(_POINTS.findall(section(heading))[0])["project"]["entry-points"].items()
    write(site, files_of(heading), group, points)


def write(site: Path, files: Mapping[str, str], group: str, points: Mapping[str, str]) -> None:
    """Put a package of these files, by their paths, and its entry points into a folder of Python's path."""
    for name, source in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    package = next(iter(files)).partition("/")[0]
    about = site / f"{package}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {place}\n" for name, place in points.items()]
    (about / "entry_points.txt").write_text(f"[{group}]\n{''.join(lines)}")
