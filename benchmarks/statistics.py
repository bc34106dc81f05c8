"""Figures over seeds."""

from __future__ import annotations

import statistics


def spread(values: list[float | None]) -> dict[str, float] | None:
    """Mean and standard deviation over the seeds that have a figure; None where none has."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else 0.0
    return {"mean": round(statistics.mean(known), 4), "sd": round(deviation, 4), "n": len(known)}
