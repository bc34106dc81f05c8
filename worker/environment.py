"""The trainer's environment: an allow-list, so that no secret of the worker reaches code that reads users' files."""

from __future__ import annotations

import os
import re
from pathlib import Path

import difftune_core
from difftune_core.tracing import TRACEPARENT

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES")
RESIDENT_BYTES = "DIFFTUNE_RESIDENT_BYTES"
"""The environment variable as `difftune_core.runtime.residency` reads it."""
_PYTHON = re.compile(r"PYTHON(PATH|HASHSEED|WARNINGS|MALLOC|UTF8|DONTWRITEBYTECODE)")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def child_environment(
    home: Path,
    *,
    num_threads: int,
    gpu: str | None,
    traceparent: str | None = None,
    resident_bytes: int | None = None,
) -> dict[str, str]:
    """All that a trainer sees. `home` is its workspace; `gpu` the one device it may use, None where there is none;
    `traceparent` the span that its own belong to; `resident_bytes` of a set may stand in its memory as a whole.
    """
    passed = {n: v for n, v in os.environ.items() if n in _PASSED_ON or _PYTHON.fullmatch(n)}
    ours = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": _python_path(passed.get("PYTHONPATH")),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # a deterministic cuBLAS asks for it
    }
    if gpu is not None:
        ours["CUDA_VISIBLE_DEVICES"] = gpu
    if resident_bytes is not None:
        ours[RESIDENT_BYTES] = str(resident_bytes)
    if traceparent is not None:
        ours[TRACEPARENT] = traceparent
    return {**passed, **ours, **dict.fromkeys(_THREADS, str(num_threads))}


def _python_path(given: str | None) -> str:
    """The worker's path, and the folder of `difftune_core` where it is not installed: the child starts elsewhere."""
    folder = Path(difftune_core.__path__[0]).parent
    own = [] if "site-packages" in folder.parts else [str(folder)]
    inherited = [str(Path(entry).resolve()) for entry in (given or "").split(os.pathsep) if entry]
    return os.pathsep.join(dict.fromkeys([*inherited, *own]))
