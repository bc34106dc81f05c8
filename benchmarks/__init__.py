"""Measurements side by side; each prints one JSON line at its end."""
