"""What Prometheus is told about attempts: how they end, what their phases take, how fast they train."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from difftune_core.hooks import Event, PhaseEvent, ProgressEvent
from worker.gpus import asked, has_driver

ATTEMPTS = Counter("difftune_attempts", "Attempts that have ended, by outcome.", ["kind", "outcome"])
LEASES_LOST = Counter("difftune_leases_lost", "Leases that this worker could not renew in time.", ["kind"])
LEASES_EXPIRED = Counter("difftune_leases_expired", "Leases that this sweep took from silent workers.", ["kind"])
PHASE_SECONDS = Histogram(
    "difftune_phase_seconds",
    "Length of a run's phases.",
    ["kind", "phase"],
    buckets=[1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 48 * 3600],
)
STEPS_PER_SECOND = Gauge("difftune_steps_per_second", "Optimizer steps a second, of the training in a slot.", ["slot"])
_GPU_FIELDS = "index,memory.used,memory.total,utilization.gpu"
_TIMEOUT_S = 10.0


class RunTelemetry:
    """One attempt. Used by one thread, as a context: when it ends, its gauges do."""

    def __init__(self, kind: str, slot: int) -> None:
        """`slot`: number of the slot in which it runs."""
        self._kind = kind
        self._slot = str(slot)
        self._phase: tuple[str, float] | None = None
        self._step: tuple[int, float] | None = None

    def heard(self, event: Event) -> None:
        """The trainer has said something."""
        if isinstance(event, PhaseEvent):
            self._end_phase()
            self._phase = event.phase, time.monotonic()
        elif isinstance(event, ProgressEvent) and event.phase == "training":
            self._trained(event.done, time.monotonic())

    def close(self) -> None:
        """The trainer has ended."""
        self._end_phase()
        STEPS_PER_SECOND.labels(self._slot).set(0)

    def _trained(self, step: int, now: float) -> None:
        if self._step is not None and step > self._step[0] and now > self._step[1]:
            STEPS_PER_SECOND.labels(self._slot).set((step - self._step[0]) / (now - self._step[1]))
        self._step = step, now

    def _end_phase(self) -> None:
        if self._phase is not None:
            name, began = self._phase
            PHASE_SECONDS.labels(self._kind, name).observe(time.monotonic() - began)
        self._phase = self._step = None


class GpuMemory(Collector):
    """Memory and use of this machine's GPUs, asked of nvidia-smi at each scrape."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Collect memory and use of the GPUs; nothing where there is none."""
        if not has_driver():
            return
        used = GaugeMetricFamily("difftune_gpu_memory_used_bytes", "Memory in use.", labels=["gpu"])
        total = GaugeMetricFamily("difftune_gpu_memory_total_bytes", "Memory.", labels=["gpu"])
        busy = GaugeMetricFamily(
            "difftune_gpu_utilization_ratio", "Share of time in which kernels run.", labels=["gpu"]
        )
        try:
            lines = asked(_GPU_FIELDS, timeout_s=_TIMEOUT_S).splitlines()
        except (OSError, subprocess.SubprocessError):
            return
        for line in lines:
            fields = [field.strip() for field in line.split(",")]
            for family, value, scale in zip((used, total, busy), fields[1:], (2**20, 2**20, 0.01), strict=True):
                if value.replace(".", "").isdigit():
                    family.add_metric(fields[:1], float(value) * scale)
        yield from (used, total, busy)
