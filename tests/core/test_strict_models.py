"""What the core reads of a file or a request refuses names that it does not know."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from pydantic import BaseModel

from difftune_core import config

OPEN = {"BaseModelCard", "CardPart", "CompanionCard", "Defaults", "FeatureExtractorCard", "RetentionSetInfo"}
"""What later versions add to, beside what reports tell."""
STORED = {"MissingMethod"}
"""What stands for a stored config's part that nobody here knows, and is never read from a request."""


def below(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for found in kind.__subclasses__():
        yield found
        yield from below(found)


def test_every_class_of_a_config_refuses_what_it_does_not_know() -> None:
    for module in pkgutil.walk_packages(config.__path__, f"{config.__name__}."):
        importlib.import_module(module.name)
    ours = [kind for kind in below(BaseModel) if kind.__module__.startswith(config.__name__)]
    told = [kind for kind in ours if ".reports." in kind.__module__ or kind.__module__.endswith(".plan.sizes")]
    assert len(ours) - len(told) > 40
    lenient = {kind.__name__ for kind in ours if kind not in told and kind.model_config.get("extra") != "forbid"}
    assert lenient == OPEN | STORED
