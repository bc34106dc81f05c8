"""What an installation has: two folders of our name, and what the service is made of where nobody else meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from difftune.command import reach_service

ROOT = Path(__file__).parents[1]
SERVICE = ("api", "cli", "worker", "migrations")


@pytest.fixture(scope="module")
def wheel() -> set[str]:
    """The files of the wheel."""
    return {included.distribution_path for included in WheelBuilder(str(ROOT)).recurse_included_files()}


def test_the_top_of_site_packages_gets_our_own_names_alone(wheel: set[str]) -> None:
    assert {path.partition("/")[0] for path in wheel} == {"difftune", "difftune_core"}


def test_every_module_and_what_it_reads_is_there(wheel: set[str]) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "difftune", "difftune_core", *SERVICE], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    placed = {f"difftune/_service/{path}" if path.startswith(SERVICE) else path for path in tracked}
    assert len(placed) > 300
    assert not placed - wheel


def test_a_folder_of_the_same_name_is_not_taken_for_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("ours", "here"):
        (tmp_path / place / "api").mkdir(parents=True)
        (tmp_path / place / "api" / "__init__.py").touch()  # else one that is installed goes before it
        (tmp_path / place / "api" / "__main__.py").write_text(f"print({place!r})")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("PYTHONPATH", "PYTHONSAFEPATH"):  # so that both are as before afterwards
        monkeypatch.setenv(name, "")
    reach_service(tmp_path / "ours")
    child = subprocess.run(
        [sys.executable, "-m", "api"], cwd=tmp_path / "here", capture_output=True, text=True, check=True
    )
    assert (sys.path[0], child.stdout) == (str(tmp_path / "ours"), "ours\n")
    reach_service(tmp_path / "none")
    assert os.environ["PYTHONPATH"] == str(tmp_path / "ours")
