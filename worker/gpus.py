"""The worker's GPUs: which one belongs to a slot, and whether it can take a job now."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from api.settings import Settings
from api.work.models import GpuUse

_PROGRAM = "nvidia-smi"
_FIELDS = "memory.used,memory.total,ecc.errors.uncorrected.volatile.total"
_OF_USE = "index,uuid,name,memory.used,memory.total,utilization.gpu,temperature.gpu"
_TIMEOUT_S = 20.0
_NAME_LENGTH = 128
CPU = "cpu"
"""Name of what a worker without GPUs trains on."""
_FREE_SHARE = 0.1
"""Share of a GPU's memory that may be in use by what is no job: a driver's own, a display's."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Place:
    """The slots and GPUs that a run has."""

    slot: int
    """Number of the slot; of several, the first."""
    gpu: str | None
    """The GPUs that belong to the slots, with commas between; None where there is none."""


@dataclass(frozen=True)
class Gpus:
    """Devices in the order of the slots."""

    names: tuple[str, ...]
    """Names of the GPUs as `CUDA_VISIBLE_DEVICES` takes them: indices or UUIDs."""
    slots: int
    """Trainings at once."""

    def of_slot(self, slot: int) -> str | None:
        """The GPU of a slot, None where there is none; slots beyond the last GPU share from the first."""
        return self.names[slot % len(self.names)] if self.names else None

    @property
    def at_once(self) -> int:
        """The most slots that one job can have: each with a GPU of its own, where there are GPUs."""
        return min(self.slots, len(self.names)) if self.names else self.slots

    def apart(self, slots: Iterable[int]) -> list[int]:
        """The slots that share no GPU with one before."""
        first: dict[str | int, int] = {}
        for slot in slots:
            first.setdefault(slot if (gpu := self.of_slot(slot)) is None else gpu, slot)
        return list(first.values())

    def place_of(self, slots: Sequence[int]) -> Place:
        """The place of a run that has these slots."""
        return Place(slots[0], ",".join(filter(None, map(self.of_slot, slots))) or None)

    def described(self) -> tuple[str, int | None]:
        """Name and memory in bytes of the first GPU; `cpu` and the machine's memory where there is none."""
        if not self.names:
            return CPU, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        try:
            name, _, mebibytes = asked("name,memory.total", self.names[0]).strip().rpartition(",")
            return name.strip()[:_NAME_LENGTH], int(mebibytes) << 20
        except (OSError, subprocess.SubprocessError, ValueError):
            return "GPU", None

    def uses(self, worker_id: str) -> list[GpuUse]:
        """Return what the driver says of these GPUs; nothing where there are none, or it does not answer."""
        if not self.names or not has_driver():
            return []
        try:
            lines = asked(_OF_USE).splitlines()
        except (OSError, subprocess.SubprocessError):
            return []
        told = [found for line in lines if (found := _use(line, self.names)) is not None]
        return [GpuUse(worker_id=worker_id, **one) for one in told]

    def fault_of(self, slot: int) -> str | None:
        """Return why the slot's GPU can take no job now; None where it can, or where there is none to look at."""
        gpu = self.of_slot(slot)
        if gpu is None or not has_driver():
            return None
        try:
            told = asked(_FIELDS, gpu)
        except (OSError, subprocess.SubprocessError) as error:
            return f"GPU {gpu} does not answer: {type(error).__name__}"
        is_shared = self.slots > len(self.names)
        return _fault(gpu, told.strip(), is_shared=is_shared)


def has_driver() -> bool:
    """Return whether this machine has what `asked` asks."""
    return shutil.which(_PROGRAM) is not None


def asked(fields: str, gpu: str | None = None, *, timeout_s: float = _TIMEOUT_S) -> str:
    """Ask the driver for fields of a GPU, or of all: a line each, with commas between.

    Raises:
        OSError, subprocess.SubprocessError: it does not answer.
    """
    query = [_PROGRAM, *([f"--id={gpu}"] if gpu else []), f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    return subprocess.run(query, capture_output=True, text=True, timeout=timeout_s, check=True).stdout  # noqa: S603  # ours


def gpus_of(settings: Settings) -> Gpus:
    """The worker's GPUs by its settings, by `CUDA_VISIBLE_DEVICES`, or all of the machine."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if settings.gpu_devices is not None:
        names = tuple(settings.gpu_devices)
    elif visible is not None:
        names = tuple(name for name in visible.split(",") if name)
    else:
        names = tuple(str(number) for number in range(_count_gpus()))
    return Gpus(names, max(1, len(names)) if settings.gpu_slots is None else settings.gpu_slots)


def _fault(gpu: str, line: str, *, is_shared: bool) -> str | None:
    """Return what a line `used, total, uncorrected errors` (MiB, MiB, count or `[N/A]`) says against a job."""
    try:
        used, total, errors = (field.strip() for field in line.split(","))
        in_use = float(used) / float(total)
    except (ValueError, ZeroDivisionError):
        return f"GPU {gpu} is not described as expected: {line[:200]!r}"
    if errors.isdigit() and int(errors) > 0:
        return f"GPU {gpu} has {errors} uncorrected memory errors"
    if in_use > _FREE_SHARE and not is_shared:
        return f"GPU {gpu} is in use by others: {used} of {total} MiB"
    return None


def _use(line: str, names: Sequence[str]) -> dict[str, Any] | None:
    """Read a line of `_OF_USE` (MiB, MiB, percent or `[N/A]`, degrees or `[N/A]`); None of another worker's GPU."""
    fields = [field.strip() for field in line.split(",")]
    index, uuid, name, *figures = fields if len(fields) == len(_OF_USE.split(",")) else [""] * 3
    gpu = next((given for given in names if given in {index, uuid}), None)
    used, total, busy, degrees = (float(one) if one.replace(".", "").isdigit() else None for one in figures or [""] * 4)
    if gpu is None or used is None or total is None:
        return None
    memory = {"memory_used": int(used) << 20, "memory_total": int(total) << 20}
    utilization = None if busy is None else busy / 100
    return {"gpu": gpu, "name": name[:_NAME_LENGTH], **memory, "utilization": utilization, "temperature": degrees}


def _count_gpus() -> int:
    """NVIDIA devices of this machine."""
    return len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])
