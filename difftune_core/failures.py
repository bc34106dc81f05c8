"""How a command ends that raised an error: an outcome with a code, in words for whoever asked for the work."""

from __future__ import annotations

import traceback
from contextlib import suppress

from pydantic import ValidationError

from difftune_core.files import is_disk_full
from difftune_core.hooks import OutcomeEvent, TaskError
from difftune_core.runtime.memory import is_out_of_memory, out_of_memory


def failure(error: Exception, command: str) -> OutcomeEvent:
    """The outcome of `command`; what nobody foresaw is printed with its trace."""
    if is_out_of_memory(error):  # first: who reads a file calls it damaged whatever hindered the reading
        _print(error)
        return out_of_memory(error, command)
    if isinstance(error, TaskError):
        return OutcomeEvent(code=error.code, message=str(error), param=error.param)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        field = "/".join(str(part) for part in first["loc"])
        return OutcomeEvent(code="invalid_config", message=f"{field}: {first['msg']}", param=field)
    _print(error)
    if is_disk_full(error):
        return OutcomeEvent(code="disk_full", message="The disk is full.")
    return OutcomeEvent(code="internal_error", message=f"{type(error).__name__}: {error}")


def _print(error: Exception) -> None:
    """The trace, for the log; a little is free again by now."""
    with suppress(MemoryError):
        traceback.print_exception(error)
