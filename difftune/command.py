"""The program `difftune`, which has the service's packages where no other program sees them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from pkgutil import resolve_name

_SERVICE = Path(__file__).parent / "_service"
"""Folder of `api`, `cli`, `worker` and `migrations` in an installation; a repository has them at its top."""


def main() -> None:
    """Run the command line."""
    reach_service(_SERVICE)
    run = resolve_name("cli.start:main")  # by name: an importer of this package must not load it
    run()


def reach_service(folder: Path) -> None:
    """Have this process and its children find the packages in `folder`, where it is there, before any others."""
    if not folder.is_dir():
        return
    sys.path.insert(0, str(folder))
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *([inherited] if inherited else [])])
    os.environ["PYTHONSAFEPATH"] = "1"  # else a child takes a folder `api` where it is started for ours
