"""Times, sizes and states as people read them: the filters of the templates."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from difftune_core.config.methods.table import all_methods, label_of
from difftune_core.drawing.numbers import number

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_STATES = {
    "validating_files": "checking its data",
    "queued": "waiting",
}
_GOOD, _BAD, _BUSY = {"succeeded", "ready"}, {"failed", "invalid"}, {"running", "validating", "resuming", "pausing"}
_OTHER_TITLES = {"fid": "FID", "kid": "KID", "ema": "EMA", "ssim": "SSIM", "gpu": "GPU", "gpus": "GPUs"}


def words(name: Any) -> str:
    """An identifier as words: `building_retention_set`, `train_loss`, a method's type."""
    text = str(name)
    if text in all_methods():
        return label_of(text)
    return _STATES.get(text) or " ".join(_OTHER_TITLES.get(word, word) for word in text.split("_"))


def tone(status: Any) -> str:
    """The style of a state."""
    return "good" if status in _GOOD else "bad" if status in _BAD else "busy" if status in _BUSY else "calm"


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units; a dash where it is not known."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def left(moment: float | None) -> str:
    """The time until a moment; empty where it is not known."""
    return "" if moment is None else duration(moment - time.time())


def when(moment: float | None) -> Markup | str:
    """A moment for people and programs; a script shows it in the reader's zone."""
    if moment is None:
        return "–"
    at = datetime.fromtimestamp(moment, UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(f"{at:%Y-%m-%dT%H:%M:%SZ}", f"{at:%Y-%m-%d %H:%M}")


def size(nbytes: float | None) -> str:
    """A number of bytes, in the unit that suits."""
    if nbytes is None:
        return "–"
    value, units = float(nbytes), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:  # noqa: PLR2004  a unit is 1024 of the one before
        value, units = value / 1024, units[1:]
    return f"{value:,.0f} {units[0]}" if units[0] == "bytes" else f"{value:,.1f} {units[0]}"


def share(done: float | None, total: float | None) -> int:
    """Percent that are done."""
    return int(100 * min(1.0, (done or 0) / total)) if total else 0


def subject(drawn: Mapping[str, Any]) -> str:
    """What images on request are of."""
    if drawn["prompt"] is not None:
        return str(drawn["prompt"]) or "no prompt"
    label, name = drawn["class_label"], drawn["class_name"]
    return str(name or ("no class" if label is None else f"class {label}"))


FILTERS: dict[str, Callable[..., Any]] = {
    "words": words,
    "tone": tone,
    "duration": duration,
    "left": left,
    "when": when,
    "size": size,
    "share": share,
    "figure": number,
    "subject": subject,
}
