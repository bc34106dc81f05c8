"""Public ids: a type prefix and a ULID, so that ids of one kind sort by time of creation."""

from __future__ import annotations

import re
import secrets
import time

from api.errors import InvalidInputError

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32, as ULIDs have it
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_RANDOM_BITS = 80
_LENGTH = 26
_SHIFTS = range(5 * (_LENGTH - 2), -1, -10)


def new_id(prefix: str) -> str:
    """`prefix_` and 26 characters: 48 bits of milliseconds, 80 random bits."""
    number = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    text = "".join([_PAIRS[(number >> shift) & 1023] for shift in _SHIFTS])
    return f"{prefix}_{text}"


def cursor(after: str | None, *prefixes: str) -> str | None:
    """A list's `after`: None for the first page. It may name what is gone by now, but nothing of another kind.

    Raises:
        InvalidInputError: it is no id with one of the prefixes.
    """
    if after and not re.fullmatch(f"({'|'.join(prefixes)})_[{_ALPHABET}]{{{_LENGTH}}}", after):
        message = f"{after!r} is no id of an item of this list ({', '.join(f'{prefix}_...' for prefix in prefixes)})."
        raise InvalidInputError("invalid_cursor", message, param="after", pointer=None)
    return after or None
