"""Prometheus metrics of a process, on a port of their own: what is measured is not for everybody who may reach the API.

`DIFFTUNE_METRICS_PORT` switches them on. Counters live in the process that counts; what is in the database is counted
when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

import structlog
from prometheus_client import REGISTRY, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from api.db import Database, epoch_now
from api.settings import Settings
from api.work.models import WorkItem
from api.work.states import WorkState

HTTP_SECONDS = Histogram(
    "difftune_http_request_seconds",
    "Time to the last byte of an answer, by route.",
    ["method", "route", "status"],
    buckets=[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120],
)
log = structlog.get_logger(__name__)


class WorkInDatabase(Collector):
    """Work items that wait or are worked on, counted at each scrape."""

    def __init__(self, database: Database) -> None:
        """Make the process's metrics; nothing is asked yet."""
        self._database = database

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Items by kind, slot and state; seconds that the oldest waiting one waits, by kind and slot."""
        items = GaugeMetricFamily("difftune_work_items", "Work items.", labels=["kind", "slot", "state"])
        oldest = GaugeMetricFamily(
            "difftune_work_oldest_seconds", "Age of the oldest queued item.", labels=["kind", "slot"]
        )
        age = epoch_now() - func.min(WorkItem.created_at)
        groups = select(WorkItem.kind, WorkItem.slot, WorkItem.state, func.count(), age)
        groups = groups.where(WorkItem.state != WorkState.DONE).group_by(WorkItem.kind, WorkItem.slot, WorkItem.state)
        try:
            with self._database.read() as session:
                found = session.execute(groups).all()
        except SQLAlchemyError:
            log.warning("work_not_counted", exc_info=True)
            return
        for kind, slot, state, count, waited_s in found:
            items.add_metric([kind, slot, state], count)
            if state == WorkState.QUEUED:
                oldest.add_metric([kind, slot], max(0.0, waited_s))
        yield items
        yield oldest


def serve_metrics(settings: Settings, *collectors: Collector) -> None:
    """Serve this process's metrics, where the settings name a port for them."""
    if settings.metrics_port is None:
        return
    for collector in collectors:
        REGISTRY.register(collector)
    start_http_server(settings.metrics_port, addr=settings.metrics_host)
    log.info("metrics_served", host=settings.metrics_host, port=settings.metrics_port)
