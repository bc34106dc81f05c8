"""Names of everything that is computed once and kept for later runs: a hash of what it was computed from, in order.

What each cache depends on is written down in `docs/decisions/0007-cache-keys.md`; `tests/core/test_cache_keys.py` holds
it to that.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Shaped

from difftune_core.files import COMPUTED, sha256_json

_CPUINFO = Path("/proc/cpuinfo")
_CPU_FIELDS = (
    *("vendor_id", "cpu family", "model", "stepping", "flags"),  # x86
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),  # ARM
)
_CHUNK = 256
Kind = Literal["pixels", "latents", "controls", "text", "retention", "references", "chains", "features"]


def contents_digest(rows: Iterable[Sequence[str | None]]) -> str:
    """Identify the images of a set by sha256 over its rows in their order.

    Args:
        rows: of each image what it is to a run: class or caption, sha256 of its file, sha256 of its control's.
    """
    digest, before = hashlib.sha256(b"["), b""
    for row in rows:  # as `sha256_json` of the list of all
        digest.update(before + json.dumps(list(row), separators=(",", ":")).encode())
        before = b","
    digest.update(b"]")
    return digest.hexdigest()


def array_digest(values: Shaped[np.ndarray, "n ..."]) -> str:
    """Identify an array by sha256 over its type, shape and values in order."""
    parts = (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))
    return parts_digest(values.dtype, values.shape, parts)


def parts_digest(dtype: np.dtype[Any], shape: tuple[int, ...], parts: Iterable[Shaped[np.ndarray, "_ ..."]]) -> str:
    """The `array_digest` of the array that these parts make, which need not be there at once."""
    digest = hashlib.sha256(f"{dtype.str} {shape}".encode())
    for part in parts:  # what does not lie in one piece is copied, but never all at once
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def place_of(cache: Path, kind: Kind, inputs: Mapping[str, Any]) -> Path:
    """The folder of what is computed from `inputs` by this machine, for `difftune_core.files.build_once`.

    Args:
        cache: the folder that runs share.
        kind: which of the caches.
        inputs: everything that the result depends on, as JSON; files, arrays and models by their digests.
    """
    return cache / COMPUTED / kind / sha256_json({"inputs": inputs, "computed_by": computed_by()})


def computed_by() -> dict[str, str | int]:
    """Return what sums depend on besides their terms: two machines that differ in it do not share what they compute."""
    return {"torch": torch.__version__, "processor": processor(), "threads": torch.get_num_threads()}


def processor() -> str:
    """The device's name, or the CPU's model and features, which decide what code the kernels use and how it rounds."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {_cpu_model()}"


def _cpu_model() -> str:
    """A digest of what Linux says of the first CPU; elsewhere what Python knows."""
    if not _CPUINFO.exists():
        return platform.processor()
    lines = _CPUINFO.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return sha256_json({name: fields.get(name) for name in _CPU_FIELDS})[:12]
