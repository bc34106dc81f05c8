"""Print what the project and its named extras need, one requirement a line: `requirements.py EXTRA...`.

Installed in a layer of their own, they are not installed anew whenever a source file changes.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = [line for extra in sys.argv[1:] for line in project["optional-dependencies"][extra]]
sys.stdout.write("\n".join([*project["dependencies"], *extras]) + "\n")
