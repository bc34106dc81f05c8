"""How an attempt ended and what follows, as workers hand it to what knows the subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SUCCEEDED = "succeeded"


@dataclass(frozen=True)
class Ending:
    """How one attempt ended. `code` is `succeeded`, a key of `RULES`, or a reason that the child named."""

    code: str
    message: str = ""
    param: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What follows an attempt: another one after `delay_s`, or, where that is None, the end for `code`."""

    code: str
    message: str
    delay_s: float | None


@dataclass(frozen=True)
class Outcome:
    """All that one attempt has come to."""

    ending: Ending
    verdict: Verdict | None
    """What is to be said of a failure; None where the work succeeded."""
    files: Sequence[Any] = ()
    """`api.subjects.files.Result`s that lie in the store and that no row names yet."""
    found: Any = None
    """What the kind of work finds out beside files, in a shape of its own."""

    @property
    def again(self) -> bool:
        """Whether another attempt is to follow, if the subject still wants one."""
        return self.verdict is not None and self.verdict.delay_s is not None


@dataclass(frozen=True)
class Settled:
    """What an outcome meant for its subject."""

    reason: str
    """How the attempt is remembered."""
    again: bool = False
    """Whether the work item goes back to the queue."""
    over: bool = True
    """Whether no attempt will ever follow, so that nothing on the node is needed any more."""
    kept: bool = False
    """Whether rows name the outcome's files now; else they go."""
