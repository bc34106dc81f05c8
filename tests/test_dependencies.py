"""What we ship imports only what an installation without our tools for development brings along."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
OURS = ("api", "worker", "difftune_core", "difftune", "cli", "migrations")
DEVELOPMENT = ("dev", "study", "charts", "e2e", "docs")


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", requirement).lower()


def installed() -> set[str]:
    """Distributions that our own requirements bring, those of requirements included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return brought([*project["dependencies"], *(line for n in extras.keys() - set(DEVELOPMENT) for line in extras[n])])


def brought(requirements: list[str]) -> set[str]:
    """Distributions that requirements bring, their own included."""
    waiting = list(requirements)
    found: set[tuple[str, str]] = set()
    while waiting:
        requirement = Requirement(waiting.pop())
        for extra in ("", *requirement.extras):
            if (name_of(requirement.name), extra) not in found:
                found.add((name_of(requirement.name), extra))
                waiting += [line for line in needs(requirement.name) if applies(line, extra)]
    return {name for name, _ in found}


def needs(distribution: str) -> list[str]:
    try:
        return requires(distribution) or []
    except PackageNotFoundError:  # an optional one that is not here
        return []


def applies(requirement: str, extra: str) -> bool:
    marker = Requirement(requirement).marker
    return marker is None or marker.evaluate({"extra": extra})


def imports(tree: ast.AST) -> Iterator[str]:
    """Modules that are imported when the code runs, not for the type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
        else:
            yield from imports(node)


def test_nothing_is_imported_that_an_installation_lacks() -> None:
    brought, distributions = installed(), packages_distributions()
    known = {*sys.stdlib_module_names, *OURS}
    lacking = {
        f"{path.relative_to(ROOT)}: {module}"
        for package in OURS
        for path in (ROOT / package).rglob("*.py")
        for module in imports(ast.parse(path.read_text(encoding="utf-8")))
        if module not in known and not brought & {name_of(name) for name in distributions.get(module, [module])}
    }
    assert not lacking


@pytest.mark.parametrize(("module", "extra"), [("cli.main", "cli"), ("difftune.client", "client")])
def test_an_extra_is_enough_for_what_it_is_for(module: str, extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    code = f"import sys; before = {{*sys.modules}}; import {module}; print(*{{*sys.modules}} - before)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    tops, known = {name.partition(".")[0] for name in done.stdout.split()}, packages_distributions()
    loaded = {name_of(distribution) for top in tops for distribution in known.get(top, [])}
    named = {name_of(Requirement(line).name) for lines in extras.values() for line in lines}
    assert {"pydantic", "httpx2"} <= loaded
    assert not loaded & named - brought([*project["dependencies"], *extras[extra]])
