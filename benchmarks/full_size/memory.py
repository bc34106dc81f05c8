"""What the trainers of a service hold in memory, sampled while a job runs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

_KIB = 1024


def trainers() -> list[int]:
    """Numbers of the processes that train."""
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if b"train" in _command(folder)]


def _command(folder: Path) -> list[bytes]:
    try:
        words = (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:  # it has ended in this moment
        return []
    return words if b"difftune_core" in words else []


def resident_bytes(pid: int) -> int:
    """Memory of a process: its own, and the pages of files that it has mapped and read; 0 once it has ended."""
    try:
        lines = (Path("/proc") / str(pid) / "status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    sizes = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(sizes[0]) * _KIB if sizes else 0


@dataclass
class Phases:
    """Peak of memory and time in each phase of a job."""

    peak_bytes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def sample(self, phase: str, seconds: float) -> None:
        """Look now; `seconds` have passed in the phase since the look before."""
        held = sum(resident_bytes(pid) for pid in trainers())
        self.peak_bytes[phase] = max(self.peak_bytes[phase], held)
        self.seconds[phase] += seconds

    def summary(self) -> dict[str, dict[str, float]]:
        """Return the peak in GB (10^9 bytes) and the seconds of each phase."""
        return {
            phase: {"peak_gb": round(self.peak_bytes[phase] / 1e9, 2), "seconds": round(self.seconds[phase], 1)}
            for phase in self.seconds
        }
