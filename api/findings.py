"""What an examination finds, as one JSON line each: `difftune doctor` puts several examinations together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Finding(BaseModel):
    """One answer: `bad` keeps jobs from running, `poor` does not yet."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    check: str
    """What was looked at."""
    state: Literal["good", "poor", "bad"]
    message: str
    """What is wrong, in words."""
    advice: str = ""
    """What to do about it."""


def good(check: str, message: str) -> Finding:
    """Make the finding that all is well."""
    return Finding(check=check, state="good", message=message)


def poor(check: str, message: str, advice: str = "") -> Finding:
    """Make the finding that something is worth knowing."""
    return Finding(check=check, state="poor", message=message, advice=advice)


def bad(check: str, message: str, advice: str = "") -> Finding:
    """Make the finding that jobs cannot run like this."""
    return Finding(check=check, state="bad", message=message, advice=advice)


def examined(check: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what `look` finds; an examination that itself fails is a finding, so that the others go on."""
    try:
        return list(look())
    except Exception as error:  # noqa: BLE001  # whatever a library throws at a broken surrounding
        return [bad(check, f"could not be examined: {type(error).__name__}: {error}")]
