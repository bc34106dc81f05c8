"""The published JSON Schemas of reports, made from their classes."""

from __future__ import annotations

import json

from difftune_core.config.reports.chain import ChainReport
from difftune_core.config.reports.comparison import ComparisonReport
from difftune_core.config.reports.record import Record
from difftune_core.config.reports.run import RunReport

REPORTS: dict[str, type[Record]] = {"report": RunReport, "comparison": ComparisonReport, "chain": ChainReport}
"""Classes by the name of the file that they describe, without its suffix."""


def json_schema(name: str) -> str:
    """Return the JSON Schema of a kind of report as text.

    Args:
        name: a key of `REPORTS`.
    """
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **REPORTS[name].model_json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
