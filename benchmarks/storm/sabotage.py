"""Seeded bugs: each must make the storm fail, or the storm proves nothing.

`python -m benchmarks.storm.sabotage NAME MODULE ARGS ...` puts the bug NAME in and runs MODULE as a program; production
code knows nothing of it.
"""

from __future__ import annotations

import random
import runpy
import sys
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api.db import Database, epoch_now
from api.idempotency.service import Once
from api.work import repository
from api.work.models import Attempt, WorkItem
from api.work.states import WorkState

_FORGOTTEN = 0.05
"""Share of the commits that are lost."""


def _put(owner: Any, name: str, bug: Any) -> None:
    """Put a bug in the place of what `owner` has by that name.

    Raises:
        AttributeError: it has none, so nothing would have changed.
    """
    getattr(owner, name)
    setattr(owner, name, bug)


def _no_fences() -> None:
    """Whoever has ever held an item may write to it, and nobody notices that a lease is over."""
    from worker.lease import Heartbeat

    _put(repository, "_held", lambda lease: [WorkItem.id == lease.item_id])
    _put(Heartbeat, "lost", property(lambda _: False))


def _no_heartbeat() -> None:
    _put(repository, "renew", lambda *_, **__: None)


def _never_recover() -> None:
    from worker.sweep import Sweep

    _put(Sweep, "recover", lambda _: 0)


def _recover_everything() -> None:
    """The sweep does not look whether a lease is over."""
    _put(repository, "is_expired", lambda: WorkItem.state == WorkState.LEASED)


def _null_lease() -> None:
    """A lease without an end never ends: null is less than nothing."""
    leased = WorkItem.state == WorkState.LEASED
    _put(repository, "is_expired", lambda: leased & (WorkItem.heartbeat_at < -1.0))


def _unlocked_sweep() -> None:
    """A sweep takes what was expired when it looked, whatever happened since."""

    def take(session: Session, item_id: str) -> WorkItem | None:
        time.sleep(0.5)
        return session.scalars(select(WorkItem).where(WorkItem.id == item_id)).one_or_none()

    _put(repository, "take_expired", take)


def _unconditional_claim() -> None:
    """Claiming in two steps: who reads the same row takes the same item."""

    def claim(session: Session, *, kinds: Any, slot: str, worker_id: str, lease_s: float, **_: Any) -> WorkItem | None:
        waiting = select(WorkItem).where(WorkItem.state == WorkState.QUEUED, WorkItem.slot == slot)
        item = session.scalars(waiting.where(WorkItem.kind.in_(kinds)).order_by(WorkItem.created_at)).first()
        if item is None:
            return None
        time.sleep(0.2)
        now = {"claimed_at": epoch_now(), "heartbeat_at": epoch_now(), "lease_until": epoch_now() + lease_s}
        taken = {"state": WorkState.LEASED, "fence": WorkItem.fence + 1, "worker_id": worker_id, **now}
        statement = update(WorkItem).where(WorkItem.id == item.id).values(taken).returning(WorkItem)
        item = session.scalars(statement, execution_options=repository._FRESH).one()
        session.add(Attempt(work_item_id=item.id, fence=item.fence, worker_id=worker_id, started_at=time.time()))
        session.flush()
        return item

    _put(repository, "claim", claim)


def _no_requeue() -> None:
    """Put away what a lost worker had in work, not back into the queue."""
    _put(repository, "requeue", lambda session, item, reason, **_: repository.finish(session, item, reason))


def _row_before_objects() -> None:
    """Announce a checkpoint before it is stored."""
    from worker.publish import Publisher
    from worker.run import Run

    publish, upload = Publisher._publish_checkpoint, Run.upload

    def later(self: Any, event: Any) -> None:
        kept: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._run.upload = lambda *given, **named: kept.append((given, named))
        publish(self, event)
        del self._run.upload
        time.sleep(0.4)
        for given, named in kept:
            upload(self._run, *given, **named)

    _put(Publisher, "_publish_checkpoint", later)


def _forgetful_trainer() -> None:
    """A resume that loses what was trained."""
    from benchmarks.storm import trainer

    _put(trainer, "resumed_weights", lambda _: "")


def _no_idempotency() -> None:
    _put(Once, "answer", lambda _self, _session, _body, _shape, act: act())


def _lost_commit() -> None:
    """Now and then what was acknowledged is not written."""
    write = Database.write

    def forgetful(self: Database) -> Any:
        unit = write(self)
        leave = unit.__exit__

        def maybe(*error: Any) -> Any:
            if random.random() < _FORGOTTEN:  # noqa: S311  # no secret
                return leave(RuntimeError, RuntimeError("forgotten"), None) or True
            return leave(*error)

        return _Unit(unit.__enter__, maybe)

    _put(Database, "write", forgetful)


class _Unit:
    """A context manager of two functions."""

    def __init__(self, enter: Callable[[], Any], leave: Callable[..., Any]) -> None:
        self._enter, self._leave = enter, leave

    def __enter__(self) -> Any:
        return self._enter()

    def __exit__(self, *error: object) -> Any:
        return self._leave(*error)


BUGS: dict[str, Callable[[], None]] = {
    "no_fences": _no_fences,
    "no_heartbeat": _no_heartbeat,
    "never_recover": _never_recover,
    "recover_everything": _recover_everything,
    "null_lease": _null_lease,
    "unlocked_sweep": _unlocked_sweep,
    "unconditional_claim": _unconditional_claim,
    "no_requeue": _no_requeue,
    "row_before_objects": _row_before_objects,
    "forgetful_trainer": _forgetful_trainer,
    "no_idempotency": _no_idempotency,
    "lost_commit": _lost_commit,
}


def main() -> None:
    """Put the bug in and become the program."""
    name, module, *arguments = sys.argv[1:]
    BUGS[name]()
    sys.argv = [module, *arguments]
    if module == "benchmarks.storm.trainer":  # a module that is run anew would be whole again
        from benchmarks.storm import trainer

        trainer.main()
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
