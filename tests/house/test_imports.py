"""Imports have a direction: no two files, and no two packages of the core or the API, need each other."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOPS = ("api", "worker", "difftune_core", "difftune", "cli", "migrations", "workbench", "benchmarks")
MAX_FILES_IN_ROOT = 8

PACKAGES = ("difftune_core", "api")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports() -> dict[str, set[str]]:
    """Module -> modules of ours that it imports, wherever in its file and for whatever purpose."""
    files = {name_of(path): path for top in TOPS for path in (ROOT / top).rglob("*.py")}
    return {name: set(imported(path, files.keys())) - {name} for name, path in files.items()}


def imported(path: Path, known: Iterable[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in known or node.module in known:
                    yield name if name in known else node.module


def circles() -> set[frozenset[str]]:
    """Groups of modules each of which reaches all others."""
    reached = {name: reachable(name) for name in imports()}
    groups = ({other for other in reached[name] if name in reached[other]} for name in imports())
    return {frozenset(group) for group in groups if group}


def reachable(start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(imports()[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imports()[name]
    return found


def mutual(top: str) -> set[frozenset[str]]:
    """Pairs of packages right below `top` that import each other."""
    packages = {path.name for path in (ROOT / top).iterdir() if path.is_dir()}
    edges = {
        (name.split(".")[1], other.split(".")[1])
        for name, others in imports().items()
        for other in others
        if name.startswith(f"{top}.") and other.startswith(f"{top}.")
    }
    return {frozenset(pair) for pair in edges if pair[0] != pair[1] and pair[::-1] in edges and packages >= {*pair}}


def test_the_graph_has_edges() -> None:
    assert sum(map(len, imports().values())) > 1000
    assert "difftune_core.config.card" in reachable("api.app")


def test_no_files_import_each_other() -> None:
    assert [sorted(circle) for circle in circles()] == []


@pytest.mark.parametrize("top", PACKAGES)
def test_no_packages_import_each_other(top: str) -> None:
    assert [sorted(pair) for pair in mutual(top)] == []


def test_the_root_of_the_core_has_few_files() -> None:
    files = [path.name for path in (ROOT / "difftune_core").glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MAX_FILES_IN_ROOT
