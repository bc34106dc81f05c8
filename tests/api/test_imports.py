from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import api

ROOT = Path(api.__file__).parent
HTTP = {
    "answers.py",
    "endpoints.py",
    "app.py",
    "deps.py",
    "error_handlers.py",
    "middleware.py",
    "routes.py",
    "routing.py",
    "strict.py",
    "verbs.py",
}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("api.app", ["torch", "diffusers", "transformers", "numpy"]),
        ("api.jobs.service", ["torch", "fastapi", "starlette"]),
        ("api.uploads.service", ["torch", "fastapi", "starlette"]),
        ("api.storage.s3", ["torch", "fastapi", "starlette"]),
        ("migrations.run", ["torch", "fastapi", "starlette"]),
    ],
)
def test_what_an_import_does_not_load(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print([m for m in {absent} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout.strip() == "[]"


def test_only_the_edge_knows_http() -> None:
    knowing = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if path.name not in HTTP
        and path.parent.name != "web"  # pages are edge throughout
        and any(f"{lib} import" in path.read_text() for lib in ("from fastapi", "from starlette"))
    }
    assert knowing == set()


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["version"] == api.__version__
