"""Methods side by side: what `docs/results.md` says, measured."""
