"""Fields of what is stored and read back, kept as a file: a default or a bound that changes changes jobs of users."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sqlalchemy import Column, Index
from sqlalchemy.sql.schema import ColumnDefault

import difftune_core.checkpoint
import difftune_core.config
from api.rows import metadata
from tests.golden import assert_golden

PACKAGES = (difftune_core.config, difftune_core.checkpoint)
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_CONFIG = ("allow_inf_nan", "extra", "frozen", "strict")
ALONE = ("difftune_core.hooks", "difftune_core.diffusion.reverse", "api.settings")


def modules() -> Iterator[ModuleType]:
    for package in PACKAGES:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield import_module(found.name)
    yield from map(import_module, ALONE)


def of_field(field: FieldInfo) -> str:
    given = [f"default {field.default!r}"] if field.default is not PydanticUndefined else []
    given += [f"default of {field.default_factory.__qualname__}"] if field.default_factory else []
    given += [repr(bound) for bound in field.metadata if type(bound).__repr__ is not object.__repr__]
    return _ADDRESS.sub("", ", ".join(given)) or "required"


def of_class(kind: type[Any]) -> dict[str, str] | None:
    if issubclass(kind, BaseModel):
        own = {name: repr(value) for name, value in sorted(kind.model_config.items()) if name in _CONFIG}
        return own | {name: of_field(field) for name, field in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind):
        return {
            field.name: "required" if field.default is dataclasses.MISSING else f"default {field.default!r}"
            for field in dataclasses.fields(kind)
        }
    return None


def test_fields_are_declared_as_they_were() -> None:
    found: dict[str, dict[str, str]] = {}
    for module in modules():
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and (fields := of_class(kind)):
                found[f"{module.__name__}.{name}"] = fields
    assert_golden("declarations.json", dict(sorted(found.items())), rounded=False)


def test_tables_are_declared_as_they_were() -> None:
    """What databases of users have: a migration goes with each change."""
    found = {
        table.name: {
            **{column.name: _of_column(column) for column in table.columns},
            **dict(sorted((str(one.name), type(one).__name__) for one in table.constraints if one.name)),
            **{str(one.name): f"{sorted(one.columns.keys())} {one.unique}" for one in _by_name(table.indexes)},
        }
        for table in metadata.sorted_tables
    }
    assert_golden("tables.json", found, rounded=False)


def _by_name(indexes: set[Index]) -> list[Index]:
    return sorted(indexes, key=lambda index: str(index.name))


def _of_column(column: Column[Any]) -> str:
    told = [repr(column.type), "null" if column.nullable else "not null"]
    told += ["primary key"] if column.primary_key else []
    told += [f"references {key.target_fullname} {key.ondelete}" for key in column.foreign_keys]
    default = column.default.arg if isinstance(column.default, ColumnDefault) else None
    told += [] if default is None or callable(default) else [f"default {default!r}"]
    return ", ".join(told)
