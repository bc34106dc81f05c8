"""The report of a run: `report.json` for programs, `report.html` for people."""

from difftune_core.evaluate.report.write import write_report

__all__ = ["write_report"]
