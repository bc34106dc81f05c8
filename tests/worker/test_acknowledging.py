"""Checkpoints that are stored already when a trainer starts: it is told so at once, and makes room."""

from __future__ import annotations

from difftune_core.hooks import Command
from worker.kinds.training import Training


class Child:
    """Notes what it is sent."""

    def __init__(self) -> None:
        self.sent: list[Command] = []

    def send(self, command: Command) -> None:
        self.sent.append(command)


def test_what_was_stored_before_the_child_began_is_acknowledged_when_it_begins() -> None:
    training, child = object.__new__(Training), Child()
    training._child, training._early = None, []
    for name in ("step-1", "step-2"):
        training._acknowledge(name)
    training.begin(child)  # type: ignore[arg-type]  # what is used of one
    training._acknowledge("step-3")
    assert child.sent == [Command(type="ack", checkpoint=f"step-{number}") for number in (1, 2, 3)]
