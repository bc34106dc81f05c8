"""Bring a model in: convert, check, and put it under its id with a card. Run by the operator alone."""

from __future__ import annotations

from difftune_core.families.convert.request import ImportRequest
from difftune_core.families.install_extractor import install_extractor
from difftune_core.families.table import all_families
from difftune_core.hooks import Hooks, OutcomeEvent, TaskError

_EXTRACTORS = {"inception": install_extractor, "dinov2": install_extractor}


def install(request: ImportRequest, hooks: Hooks) -> OutcomeEvent:
    """Write `<models>/<id>/`, as a whole or not at all, as the family does that knows the kind.

    Raises:
        TaskError: `invalid_option`, no family knows the kind; `model_exists`, `licence_missing`, or why the files were
            refused.
    """
    known = dict(_EXTRACTORS)
    for family in all_families():
        known |= family.installers
    if request.kind not in known:
        raise TaskError("invalid_option", f"there is no kind {request.kind!r}: {', '.join(sorted(known))}", "kind")
    return known[request.kind](request, hooks)
