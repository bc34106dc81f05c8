"""Measurements side by side; each prints one JSON line at its end. What they share is in `benchmarks.harness`."""
