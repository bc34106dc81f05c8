"""The house's own rules, where no linter knows them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from api import __version__

ROOT = Path(__file__).parents[1]
PACKAGES = ("api", "worker", "difftune_core", "difftune", "cli", "migrations", "benchmarks")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 40


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_the_rules_see_the_sources() -> None:
    assert len(SOURCES) > 150


def test_files_are_short() -> None:
    files = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert not {path: count for path, count in lengths.items() if count > MAX_FILE_LINES}


def test_functions_are_short() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": node.end_lineno - node.lineno + 1
        for path in SOURCES
        if path.parent.name != "versions"  # a migration is a list of statements
        for node in functions(path)
        if node.end_lineno and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
    }
    assert not long


def docstrings(path: Path) -> list[str]:
    """Of the file, its classes and functions, and what stands below fields and constants."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    return [node.value for node in texts if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_docstrings_can_be_read_alone() -> None:
    """They begin with a subject or an imperative: "Digest of the file.", not "Of the file." or "Its digest."."""
    leaning = (
        r"And|As|By|From|Here|Its?|Likewise|None|Nothing|Null|Of|Or|Such|Their|There|These|They|Those|With|Without"
    )
    fragment = re.compile(
        rf"({leaning})\b|(How|What|When|Where|Whether|Who|Why) (its?|their|they)\b|\w+ (it|them|those)\b"
    )
    found = ((path, text) for path in SOURCES for text in docstrings(path))
    assert not [f"{path.name}: {text[:60]}" for path, text in found if fragment.match(text)]


def test_what_is_not_checked_says_why() -> None:
    hash_ = "# "  # apart, or this file would be found
    bare = re.compile(
        rf"{hash_}(type: ignore\[[\w\-, ]+\]|noqa: [A-Z0-9, ]+?)\s*$|{hash_}type: ignore(?!\[)|{hash_}noqa(?!: [A-Z])"
    )
    files = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]
    lines = ((path, line) for path in files for line in path.read_text(encoding="utf-8").splitlines())
    assert not [f"{path.name}: {line.strip()}" for path, line in lines if bare.search(line)]


def test_the_newest_change_is_this_version() -> None:
    found = re.search(r"^## (\d\S*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    assert found.group(1) == __version__


def test_no_pickle_is_read_by_service_or_trainer() -> None:
    """Decision 5: the operator's converter is the one place, in a process of its own and with `weights_only`."""
    allowed = {ROOT / "difftune_core" / "families" / "convert" / "pickled.py"}
    loading = r"torch\.load\(|pickle\.|allow_pickle=True|trust_remote_code(?!\W+False)"
    risky = re.compile(loading + r"|(?<![.\w])(eval|exec)\(|shell=True")
    found = [path for path in SOURCES if path not in allowed and risky.search(path.read_text(encoding="utf-8"))]
    assert not found


def test_only_families_ask_which_family_it_is() -> None:
    branch = re.compile(
        r"\b(config|transfer|body|asked)\.control is |(?<![.\w])control is (not )?None|\.family ==|, DiT\)"
    )
    of_families = (ROOT / "difftune_core" / "families", ROOT / "difftune_core" / "config" / "families.py")
    asking = [path for path in SOURCES if branch.search(path.read_text(encoding="utf-8"))]
    assert not [path for path in asking if not any(path.is_relative_to(place) for place in of_families)]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("api.app", ["torch", "diffusers"]),
        ("worker.app", ["torch", "fastapi", "diffusers"]),
        ("cli.main", ["torch", "sqlalchemy", "diffusers"]),
        ("difftune_core.train.run", ["diffusers", "transformers", "peft"]),
    ],
)
def test_a_process_loads_only_what_it_needs(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
