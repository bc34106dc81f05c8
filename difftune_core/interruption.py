"""Interruption points: where work that takes minutes lets a stop take effect, and tells how far it is.

Sampling passes one with every denoising step, networks with every batch, and who waits for a shared cache ten times a
second: a stop is honoured within one of these whatever is being made. Between optimizer steps the loop itself asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from difftune_core.hooks import Hooks, Phase, ProgressEvent

Progress = Callable[[int], None]
"""Hears how many units (images) are done. Called with every denoising step: the same number may come again."""

Listen = Callable[[int], Progress]
"""Makes a listener for a number of units."""


class Stopped(Exception):  # noqa: N818  # no error: it was requested
    """A requested stop takes effect. Nothing that was made in memory since the last optimizer step is needed again."""


_is_stop_requested: ContextVar[Callable[[], bool]] = ContextVar("is_stop_requested", default=lambda: False)


@contextmanager
def interruptible(hooks: Hooks) -> Iterator[None]:
    """A block in which interruption points raise `Stopped` once `hooks` request a stop; elsewhere they do nothing."""
    token = _is_stop_requested.set(lambda: hooks.stop_requested() is not None)
    try:
        yield
    finally:
        _is_stop_requested.reset(token)


def interruption_point() -> None:
    """Let a stop take effect here.

    Raises:
        Stopped: a stop was requested.
    """
    if _is_stop_requested.get()():
        raise Stopped


def progress_of(hooks: Hooks, phase: Phase, total: int) -> Progress:
    """A listener that tells `hooks` of `done` of `total`, and is an interruption point for them."""
    told = 0

    def report(done: int) -> None:
        nonlocal told
        if hooks.stop_requested() is not None:
            raise Stopped
        told += 1
        hooks.emit(ProgressEvent(phase=phase, done=done, total=total, tick=told))

    return report


def after(first: int, progress: Progress | None) -> Progress:
    """A listener for work that begins when `first` units are done."""
    return (lambda done: progress(first + done)) if progress is not None else (lambda _: None)


def unheard(_total: int) -> Progress:
    """Hear nothing of progress."""
    return lambda _: None


def of_batch(progress: Progress | None, start: int, count: int) -> Callable[[int, int], None]:
    """Return what hears of the denoising steps of one batch of images: an interruption point each.

    Args:
        progress: told of images; of the batch as large a part as of its steps.
        start: images before the batch.
        count: images of the batch.
    """

    def stepped(step: int, steps: int) -> None:
        interruption_point()
        if progress is not None:
            progress(start + count * step // steps)

    return stepped
