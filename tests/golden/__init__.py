"""What whole runs leave, kept as files: whatever changes in it is seen, and is meant or is a fault.

`GOLDEN=write make test` writes the files anew; `git diff` then shows what has become otherwise.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_CLOSE = 0.02  # of a number: processors round otherwise, and a network of four steps carries that on
_NEAR_ZERO = 1e-4
_HERE = frozenset({"environment", "seconds", "took_s"})  # told of this machine and hour
_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)  # kept in the templates
_IMAGE = re.compile(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+")
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
_DECIMALS = re.compile(r"\d+\.\d+(e[-+]?\d+)?")


def plain(value: Any, *, rounded: bool = True) -> Any:
    """Return what is compared: JSON without times, digests and images; `rounded`: without decimals inside of texts."""
    match value:
        case dict():
            return {str(key): plain(held, rounded=rounded) for key, held in value.items() if key not in _HERE}
        case list() | tuple():
            return [plain(held, rounded=rounded) for held in value]
        case str():
            text = _DIGEST.sub("DIGEST", _IMAGE.sub("IMAGE", _STYLE.sub("", value)))
            return _DECIMALS.sub("0.0", text) if rounded else text
    return value


def assert_golden(name: str, found: Any, *, rounded: bool = True) -> None:
    """Compare what was found, a text or JSON, with the file of this name."""
    path, seen = _FOLDER / name, plain(found, rounded=rounded)
    if os.environ.get("GOLDEN") == "write":
        text = seen if isinstance(seen, str) else json.dumps(seen, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
    kept = path.read_text(encoding="utf-8")
    if isinstance(seen, str):
        assert seen.splitlines() == kept.splitlines()
    else:
        assert differences(json.loads(kept), json.loads(json.dumps(seen))) == []


def differences(kept: Any, seen: Any, at: str = "") -> list[str]:
    """Say where two JSON values differ, numbers by more than rounding."""
    match kept, seen:
        case dict(), dict():
            alone = [f"{at}.{name} is in one alone" for name in sorted(kept.keys() ^ seen.keys())]
            both = sorted(kept.keys() & seen.keys())
            return alone + [line for name in both for line in differences(kept[name], seen[name], f"{at}.{name}")]
        case list(), list() if len(kept) == len(seen):
            pairs = enumerate(zip(kept, seen, strict=True))
            return [line for index, (one, other) in pairs for line in differences(one, other, f"{at}[{index}]")]
        case float(), float() if math.isclose(kept, seen, rel_tol=_CLOSE, abs_tol=_NEAR_ZERO):
            return []
    return [] if type(kept) is type(seen) and kept == seen else [f"{at}: {kept!r} has become {seen!r}"]
