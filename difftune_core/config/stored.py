"""Configs that were resolved and stored, by this version or another: read as they stand, never judged anew.

A config is resolved and judged once, where it is submitted; what was accepted there runs under every later version,
whatever that would say of it today. Pydantic only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from difftune_core.config.frozen import Frozen
from difftune_core.config.named import STORED
from difftune_core.hooks import TaskError

SCHEMA_VERSION = 1
FORMER: dict[str, dict[str, Any]] = {"evaluation": {"class_distribution": "equal"}}
"""Fields by section that came after the first release, where their default is not what was done before there were any:
a stored config without one is of that time."""
FORMER_WAYS: dict[str, dict[str, Any]] = {"resources": {"precision": "fp32", "compile": "off"}}
"""Former values of how a run is carried out, which is in no digest, and in no config of the first releases."""
RESOLVED_HELP = "the config is complete, as a service stores it: it is run as it stands, without defaults or judgement"
Config = TypeVar("Config", bound=Frozen)


def read_stored(kind: type[Config], stored: Mapping[str, Any]) -> Config:
    """A resolved config as it was stored: fields that are no more are left out, later ones are as they used to be.

    Args:
        kind: `TransferConfig`, `ChainOfForgetting` or another settings class.
        stored: its JSON object.

    Raises:
        TaskError: `config_of_newer_version`, stored by a version whose schema this one does not know.
    """
    version = stored.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        message = f"stored with schema version {version}; this version reads {SCHEMA_VERSION}: upgrade this worker"
        raise TaskError("config_of_newer_version", message, "schema_version")
    then = {section: {**values, **stored[section]} for section, values in FORMER.items() if section in stored}
    for section, values in FORMER_WAYS.items():
        if section in kind.model_fields:
            then[section] = {**values, **stored.get(section, {})}
    return kind.model_validate({**stored, **then}, extra="ignore", context=STORED)


def read_config_file(kind: type[Config], path: Path, *, resolved: bool) -> Config:
    """A command's config file: as `read_stored` where it holds a resolved config, else strictly, as a person wrote it.

    Raises:
        TaskError: `config_of_newer_version`.
        pydantic.ValidationError: it is no such config.
    """
    content = path.read_bytes()
    return read_stored(kind, json.loads(content)) if resolved else kind.model_validate_json(content)


def without_former(fields: dict[str, Any], config: Frozen) -> dict[str, Any]:
    """Leave out of a config's dump without defaults what is as it was before the field came is left out, in place of
    what is at its default now. So a digest does not change when a field comes, and tells the new behaviour from the
    old.
    """
    kept = dict(fields)
    for section, former in FORMER.items():
        inside = {name: value for name, value in fields.get(section, {}).items() if name not in former}
        actual = {name: getattr(getattr(config, section), name) for name in former}
        inside |= {name: value for name, value in actual.items() if value != former[name]}
        kept.pop(section, None)
        if inside:
            kept[section] = inside
    return kept
