"""How a run stands, shown while it goes on: a cell of a notebook that changes, or lines where there is no notebook."""

from __future__ import annotations

import base64
import html
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

_CELL_EVERY_S = 0.5
_LINE_EVERY_S = 5.0
_LOGGED = frozenset({"train_loss", "target_loss", "retention_loss"})
_JUDGED = "eval_"  # what names of metrics of an evaluation begin with


def named_figures(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return metrics by the names of the report: an evaluation's without the prefix that tells them from losses.

    What is logged in training under the same name keeps it, and the evaluation's its prefix.
    """
    known = {name: value for name, value in values.items() if value is not None}
    return {_named(name): value for name, value in known.items()}


def _named(name: str) -> str:
    bare = name.removeprefix(_JUDGED)
    return name if bare in _LOGGED else bare


class Board:
    """What is shown of one run."""

    def __init__(self, title: str, *, show: bool = True) -> None:
        """Show nothing yet; with `show` false nothing ever."""
        self._title = title
        self._cell = _cell() if show else None
        self._speaks = show and self._cell is None
        self._phase, self._done, self._total = "", 0, 0
        self._figures: dict[str, float] = {}
        self._picture: tuple[str, bytes] | None = None
        self._shown_at = 0.0

    @property
    def wants_pictures(self) -> bool:
        """Whether there is a place for pictures."""
        return self._cell is not None

    def phase(self, name: str) -> None:
        """Show that a phase begins, of which nothing is counted yet."""
        named = name.replace("_", " ")
        if named != self._phase:
            self._say(f"{self._title}: {named}")
        self._phase, self._done, self._total = named, 0, 0
        self._show(_CELL_EVERY_S)

    def progress(self, done: int, total: int) -> None:
        """Show how many of how many are done."""
        self._done, self._total = done, total
        self._show(0.0 if done == total else _CELL_EVERY_S)
        if self._speaks and total and (done == total or time.monotonic() - self._shown_at > _LINE_EVERY_S):
            self._shown_at = time.monotonic()
            loss = self._figures.get("train_loss")
            known = f", loss {loss:.4g}" if loss is not None and self._phase == "training" else ""
            self._say(f"  {self._phase}: {done} of {total}{known}")

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """Show what was measured at a step."""
        self._figures |= named_figures(values)
        if judged := {name: value for name, value in values.items() if name.startswith(_JUDGED)}:
            self._say(f"  step {step}: " + ", ".join(f"{k} {v:.4g}" for k, v in named_figures(judged).items()))
        self._show(_CELL_EVERY_S)

    def picture(self, title: str, png: bytes) -> None:
        """Show sample images."""
        self._picture = title, png
        self._show(0.0)

    def say(self, message: str) -> None:
        """Tell a sentence, where lines are told."""
        self._say(f"  {message}")

    def end(self, how: str) -> None:
        """Show how the run ended."""
        self.phase(how)
        self._show(0.0)

    def _say(self, line: str) -> None:
        if self._speaks:
            sys.stderr.write(line + "\n")

    def _show(self, every_s: float) -> None:
        if self._cell is None or time.monotonic() - self._shown_at < every_s:
            return
        self._shown_at = time.monotonic()
        self._cell.update({"text/html": self._html(), "text/plain": f"{self._title}: {self._phase}"}, raw=True)

    def _html(self) -> str:
        bar = f'<progress value="{self._done}" max="{self._total}"></progress> {self._done} of {self._total}'
        figures = ", ".join(f"{html.escape(name)} {value:.4g}" for name, value in self._figures.items())
        parts = [f"<b>{html.escape(self._title)}</b>: {html.escape(self._phase)}", bar if self._total else "", figures]
        if self._picture is not None:
            title, data = self._picture
            encoded = base64.b64encode(data).decode()
            parts.append(
                f'{html.escape(title)}<br><img alt="{html.escape(title)}" src="data:image/png;base64,{encoded}">'
            )
        return "".join(f"<div>{part}</div>" for part in parts if part)


def _cell() -> Any | None:
    """Make a place in the notebook that this process serves; None outside of one."""
    if "IPython" not in sys.modules:
        return None
    shell = import_module("IPython").get_ipython()
    if getattr(shell, "kernel", None) is None:  # a terminal's shell shows no HTML
        return None
    return import_module("IPython.display").display({"text/plain": ""}, raw=True, display_id=True)
