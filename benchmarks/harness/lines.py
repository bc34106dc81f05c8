"""JSON lines with what made them: the commit and the machine."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]


def made_by() -> dict[str, Any]:
    """Commit, machine and date; `load` is how many processes wanted a core in the last minute."""
    found: dict[str, Any] = {
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "numpy") if _is_installed(name)},
    }
    return found | _gpu()


def tell(fields: dict[str, Any], keep: Path | None = None) -> None:
    """Print a line, and append it to the file `keep`."""
    line = json.dumps({**fields, "made_by": made_by()})
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    if keep is not None:
        keep.parent.mkdir(parents=True, exist_ok=True)
        with keep.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _commit() -> str | None:
    """The commit of this checkout, with a plus where files differ from it; None where there is no git."""
    git = shutil.which("git")
    if git is None or not (_ROOT / ".git").exists():
        return None
    found = [
        subprocess.run([git, *arguments], cwd=_ROOT, capture_output=True, text=True, check=False).stdout.strip()
        for arguments in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
    ]
    return found[0] + ("+" if found[1] else "") or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _gpu() -> dict[str, Any]:
    """The GPU that this process has used, if any: torch is not loaded for the question."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    return {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
