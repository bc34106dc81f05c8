"""What was probably meant by an unknown field: a name like it in the same object, or its own name elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel

from difftune_core.config.methods.table import OneOfTheMethods, all_methods

Path = tuple[str, ...]


def meant(model: Any, path: Sequence[str | int]) -> str:
    """A sentence that names the field, or nothing.

    Args:
        model: the body's type.
        path: to the field that is unknown, with the positions in lists.
    """
    *inside, name = [step for step in path if isinstance(step, str)]
    known = list(dict.fromkeys(_fields(model, ())))
    siblings = [field[-1] for field in known if field[:-1] == tuple(inside)]
    if near := _like(name, siblings):
        return f"Did you mean {near!r}?"
    elsewhere = [field for field in known if field[-1] == name]
    if not elsewhere and (near := _like(name, [field[-1] for field in known])):
        elsewhere = [field for field in known if field[-1] == near]
    shown = [".".join(field) for field in elsewhere]
    return f"Did you mean {' or '.join(repr(field) for field in shown)}?" if 0 < len(shown) <= 3 else ""  # noqa: PLR2004  more say nothing


def _like(name: str, names: list[str]) -> str | None:
    """Return the name that is spelled like the unknown one, or shortened by it: `lr` is `learning_rate`."""
    short = [known for known in names if "".join(word[0] for word in known.split("_") if word) == name.lower()]
    return next(iter([*short, *get_close_matches(name.lower(), names, n=1, cutoff=0.7)]), None)


def _fields(annotation: Any, inside: Path) -> Iterator[Path]:
    """Paths of all fields; positions in lists have no place in them."""
    for part in get_args(annotation):
        yield from _fields(part, inside)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            path = (*inside, field.alias or name)
            yield path
            yield from _fields(field.annotation, path)
            if OneOfTheMethods() in field.metadata:
                for method in all_methods().values():
                    yield from _fields(method, path)
