"""Validating an uploaded data set of captioned images: every bad file and row is named, every entry accounted for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from difftune_core.data.archive import Limits, open_archive
from difftune_core.data.captioned import CaptionedItem, CaptionedScan, captioned_digest, scan_captioned
from difftune_core.data.rows import is_captioned
from difftune_core.data.validate import ITEMS_FILE, REPORT_FILE, Finding, file_info, progress_of, validate
from difftune_core.files import write_durably
from difftune_core.hooks import ArtifactEvent, Hooks, PhaseEvent, TaskError

MIN_ITEMS = 2


@dataclass(frozen=True)
class CaptionedReport:
    """`report.json`. `accepted + rejected + ignored = entries`, counted in files; any error makes `ok` false."""

    ok: bool
    form: str
    """`captioned`, which tells this report from that of class folders."""
    num_items: int
    num_captions: int
    """Distinct ones."""
    has_controls: bool
    entries: int
    accepted: int
    """Files of the accepted rows, and those that hold rows or captions."""
    rejected: int
    ignored: int
    errors: list[Finding]
    warnings: list[Finding]
    digest: str | None
    """Of the accepted rows' captions and contents; null where there are none."""


def validate_any(path: Path, out: Path, hooks: Hooks) -> None:
    """Judge a data set of either form, by what its files are: `validate_captioned`, or `validate` for class folders."""
    try:
        with open_archive(path) as archive:
            captioned = is_captioned(archive)
    except TaskError:  # said by the report
        captioned = False
    (validate_captioned if captioned else validate)(path, out, hooks)


def validate_captioned(path: Path, out: Path, hooks: Hooks, limits: Limits | None = None) -> None:
    """Judge the archive or folder at `path`; write `report.json` and `items.jsonl` into `out`.

    A bad data set is a result, not a failure: nothing is raised for it.

    Raises:
        TaskError: `stopped`, when the caller asked to stop.
    """
    hooks.emit(PhaseEvent(phase="validating"))
    errors: list[Finding] = []
    entries = 0
    result = CaptionedScan([], [], [], frozenset(), 0)
    try:
        with open_archive(path, limits) as archive:
            result = scan_captioned(archive, decode=True, on_file=progress_of(hooks))
            entries = archive.entries
    except TaskError as error:
        if error.code == "stopped":
            raise
        errors.append(Finding(error.param or path.name, error.code, str(error), "error"))
    report = _report(result, entries, path.name, errors)
    out.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(asdict(item), ensure_ascii=False) for item in result.items)
    write_durably(out / ITEMS_FILE, "".join(f"{line}\n" for line in lines).encode())
    write_durably(out / REPORT_FILE, json.dumps(asdict(report), ensure_ascii=False, indent=2).encode() + b"\n")
    hooks.emit(ArtifactEvent(kind="items", file=file_info(out, ITEMS_FILE)))
    hooks.emit(ArtifactEvent(kind="validation_report", file=file_info(out, REPORT_FILE)))


def _report(result: CaptionedScan, entries: int, name: str, errors: list[Finding]) -> CaptionedReport:
    items = result.items
    errors = [*errors, *(Finding(r.path, r.code, r.message, "error") for r in result.refused)]
    errors += [Finding(path, "unused_file", "no row names this file", "error") for path in result.unused]
    if not errors and len(items) < MIN_ITEMS:
        found = f"{len(items)} images with captions were found; at least {MIN_ITEMS} are needed"
        errors.append(Finding(name, "too_few_rows", f"{found} (metadata.jsonl, or .txt files)", "error"))
    accepted = len({path for item in items for path in (item.path, item.control) if path} | result.sources)
    return CaptionedReport(
        ok=not errors,
        form="captioned",
        num_items=len(items),
        num_captions=len({item.caption for item in items}),
        has_controls=any(item.control for item in items),
        entries=entries,
        accepted=accepted,
        rejected=entries - accepted - result.ignored,
        ignored=result.ignored,
        errors=errors,
        warnings=list(_repeated(items)),
        digest=captioned_digest(items) if items else None,
    )


def _repeated(items: list[CaptionedItem]) -> Iterator[Finding]:
    """Images with the bytes of an earlier one."""
    first: dict[str, CaptionedItem] = {}
    for item in items:
        before = first.setdefault(item.sha256, item)
        if before is not item:
            same = "and the same caption" if item.caption == before.caption else "with another caption"
            yield Finding(item.path, "duplicate_image", f"the same content as {before.path}, {same}", "warning")
