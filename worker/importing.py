"""The file of an imported data set on its way from the operator's bucket into our store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from api.datasets import imports, lifecycle
from api.datasets.models import Dataset
from api.storage.base import ObjectChangedError
from difftune_core.hooks import TaskError
from worker.run import Run


def bring_in(run: Run, dataset: Dataset) -> list[dict[str, Any]]:
    """Copy the source into our store; the data set's parts, which its row has from then on.

    Raises:
        TaskError: `source_changed` or `source_missing` since the import was asked for.
        StoreError: one of the two stores did not answer.
    """
    assert dataset.source is not None, "a data set without parts is an import"
    key = f"datasets/{dataset.id}/{run.lease.fence}/file"
    try:
        source = imports.parsed(run.tools.settings, dataset.source["uri"])
    except ValueError as error:
        raise TaskError("import_not_allowed", str(error)) from None
    try:
        stored = run.tools.store.put_stream(key, _checked(run, source.read(dataset.source["etag"])))
    except FileNotFoundError:
        raise TaskError("source_missing", f"{dataset.source['uri']} is not there any more.") from None
    except ObjectChangedError:
        raise TaskError("source_changed", f"{dataset.source['uri']} is not what it was.") from None
    if stored.bytes != dataset.bytes:
        raise TaskError("source_changed", f"{dataset.source['uri']} has {stored.bytes} bytes, not {dataset.bytes}.")
    parts = [{"key": key, "bytes": stored.bytes}]
    run.insist(lambda: _note(run, parts))
    return parts


def _note(run: Run, parts: list[dict[str, Any]]) -> None:
    with run.unit() as (session, _):
        lifecycle.lock(session, run.lease.subject_id).parts = parts


def _checked(run: Run, chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        run.check()
        yield chunk
