"""What nobody else recovers: leases of lost workers, doorbells that did not ring, uploads that were abandoned,
objects that no row names.

Any number of sweeps may run at once: each step is a short transaction that takes what is still there to take.
"""

from __future__ import annotations

import fcntl
import math
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from sqlalchemy import and_, delete, func, or_, select

from api.db import Database, checkpoint_wal
from api.idempotency import repository as idempotency
from api.images import service as images
from api.queue import Doorbell
from api.room import Reserve
from api.settings import Settings
from api.storage import open_store
from api.storage.cleaning import delete_objects
from api.subjects.kinds import kinds
from api.uploads import service as uploads
from api.uploads.models import Upload, UploadPart
from api.uploads.states import UploadStatus
from api.work import repository
from api.work.endings import Ending
from api.work.order import preempt
from api.work.states import Slot
from worker.collect import collect, collect_checkpoints, collect_ended
from worker.settle import settle
from worker.telemetry import ATTEMPTS, LEASES_EXPIRED
from worker.tracing import recovery_span

_UNRUNG_S = 5.0
_PARTS_AT_ONCE = 500
_LINK_TTLS = 2.0  # a PUT may begin when its link ends, and take as long again
_WAL_BYTES = 1 << 20
_LOOK_FOR_ROOM_S = 30.0  # it lists the whole store
log = structlog.get_logger(__name__)


class Sweep:
    """One sweeper."""

    def __init__(self, settings: Settings) -> None:
        """Make a sweeper; nothing is connected yet."""
        self.settings = settings
        self._database = Database(settings.database, lease_s=settings.lease_s)
        self._store = open_store(settings)
        self._doorbell = Doorbell(settings, self._database)
        self._reserve = Reserve(settings.data_dir)
        self._collected_at = -math.inf
        self._looked_for_room_at = -math.inf

    def once(self) -> bool:
        """Do every step once; one that fails does not keep the others from theirs. Return whether all worked."""
        steps: list[Callable[[], object]] = [
            self.recover,
            self.preempt,
            self.ring,
            self.expire_uploads,
            self.expire_images,
            self.forget_keys,
            self.fold_log,
        ]
        worked = True
        for step in [*steps, self.keep_room, self.clean_if_due]:
            try:
                step()
            except Exception:  # the next round tries again
                log.exception("sweep_step_failed", step=step.__name__)
                worked = False
        return worked

    def recover(self) -> int:
        """Settle attempts whose worker fell silent; how many there were."""
        with self._database.read() as session:
            silent = repository.expired(session)
        return sum(self._recovered(item_id) for item_id in silent)

    def _recovered(self, item_id: str) -> bool:
        with self._database.write() as session:
            item = repository.take_expired(session, item_id)
            if item is None:
                return False
            if item.kind not in {kind.name for kind in kinds()}:  # of a package that is not installed here
                log.error("kind_of_work_unknown", kind=item.kind, subject=item.subject_id)
                return False
            ending = Ending("worker_lost", "The worker fell silent.")
            with recovery_span(repository.lease_of(item)):
                settle(session, item, ending, settings=self.settings)
                log.warning("lease_expired", subject=item.subject_id, attempt=item.fence, worker=item.worker_id)
            LEASES_EXPIRED.labels(item.kind).inc()
            ATTEMPTS.labels(item.kind, ending.code).inc()
        return True

    def recover_all(self) -> int:
        """Settle every attempt, at once: to be called where no worker can live, with the data folder locked. Of a
        database that other folders may use too, none.
        """
        if self.settings.database_url is not None:
            return 0
        with self._database.write() as session:
            repository.end_leases(session)
        return sum(iter(self.recover, 0))

    def preempt(self) -> int:
        """Have less important trainings make way for more important ones that wait; how many were asked."""
        with self._database.write() as session:
            asked = preempt(
                session,
                Slot.GPU,
                patience_s=self.settings.preempt_after_s,
                images_patience_s=self.settings.images_patience_s,
                across_tenants=self.settings.priority_across_tenants,
            )
        if asked:
            log.info("preempted", subjects=asked)
            self._doorbell.ring()  # their holders look at once
        return len(asked)

    def forget_keys(self) -> int:
        """Forget the answers to requests that nobody sends again any more."""
        with self._database.write() as session:
            return idempotency.forget(session, older_than_s=self.settings.idempotency_ttl_s)

    def ring(self) -> bool:
        """Ring for items that nobody rang for."""
        with self._database.read() as session:
            waiting = repository.count_unrung(session, older_than_s=_UNRUNG_S)
        return self._doorbell.ring() if waiting else False

    def expire_uploads(self) -> int:
        """End uploads whose time is over; forget the parts that belong to no file. How many parts were forgotten.

        A part's row stays until nobody can send the part any more: a link outlives its upload.
        """
        with self._database.write() as session:
            overdue = uploads.expire_overdue(session)
        delete_objects(self._store, overdue)
        query = select(UploadPart.id, UploadPart.key).join(Upload, Upload.id == UploadPart.upload_id)
        unused = or_(
            Upload.status.in_([UploadStatus.EXPIRED, UploadStatus.CANCELLED]),
            and_(Upload.status == UploadStatus.COMPLETED, UploadPart.bytes.is_(None)),
        )
        signed_at = func.coalesce(UploadPart.signed_at, UploadPart.created_at)
        late = signed_at < time.time() - _LINK_TTLS * self.settings.link_ttl_s
        with self._database.read() as session:
            parts = session.execute(query.where(unused, late).limit(_PARTS_AT_ONCE)).all()
        for part in parts:  # objects first: a row without its object can be swept again, the reverse is lost
            self._store.delete(part.key)
        if parts:
            with self._database.write() as session:
                session.execute(delete(UploadPart).where(UploadPart.id.in_([part.id for part in parts])))
        return len(parts)

    def expire_images(self) -> int:
        """Delete images that were asked for and are older than they are kept; how many files that were."""
        with self._database.write() as session:
            overdue = images.expire(session, self.settings)
        delete_objects(self._store, overdue)
        return len(overdue)

    def keep_room(self) -> int:
        """Remove what ended attempts have left, where room is short; the number of objects removed.

        Then fill the reserve.
        """
        if self.settings.database_url is not None and self.settings.store_url is not None:
            return 0  # nothing of ours is on this disk
        removed = 0
        if self._reserve.is_short and time.monotonic() - self._looked_for_room_at > _LOOK_FOR_ROOM_S:
            self._looked_for_room_at = time.monotonic()
            removed = collect_ended(self._database, self._store)
        self._reserve.make()
        return removed

    def clean_if_due(self) -> int:
        """`clean`, now and then: it asks the store for the list of all that it has."""
        if time.monotonic() - self._collected_at < self.settings.collect_s:
            return 0
        self._collected_at = time.monotonic()
        return self.clean()

    def clean(self) -> int:
        """Remove from the store what killed processes left half-written, checkpoints that nobody needs any more, and
        what no row names; how many objects that were.
        """
        grace_s = self.settings.orphan_grace_s
        removed = self._store.forget_unfinished(grace_s) + collect_checkpoints(self._database, self._store)
        return removed + collect(self._database, self._store, grace_s)

    def fold_log(self) -> bool:
        """Fold SQLite's write-ahead log into its file when it has grown; whether it was."""
        log_file = Path(f"{self._database.engine.url.database}-wal")
        if not self._database.is_sqlite or not log_file.exists() or log_file.stat().st_size < _WAL_BYTES:
            return False
        with log_file.with_name(f"{log_file.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False  # another sweep is at it, and only one may be
            checkpoint_wal(self._database)
        return True

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()
