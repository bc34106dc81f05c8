"""The base of every settings class."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable; refuses unknown fields, values of another type (`true` or `"1"` for 1), numbers that are not finite.

    Field docstrings become the OpenAPI text.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, strict=True
    )
