"""The page on data sets names every code that validation can give."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PLACES = {"RefusedError": 0, "TaskError": 0, "Refusal": 1, "Finding": 1}
OF_JOBS = {"dataset_changed", "invalid_dataset", "stopped", "too_few_images"}  # given while training or not at all
OF_COMMANDS = {"invalid_config"}  # of options on a command line


def codes() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "difftune_core" / "data").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PLACES:
                place = PLACES[node.func.id]
                code = node.args[place] if len(node.args) > place else None
                if isinstance(code, ast.Constant):
                    found.add(str(code.value))
    return found


def test_every_code_is_on_the_page_and_no_other() -> None:
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    tables = "\n".join(line for line in page.split("## What is ignored")[1].splitlines() if line.startswith("| `"))
    named = {code for line in tables.splitlines() for code in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert len(named) > 50
    assert named == codes() - OF_JOBS - OF_COMMANDS
