"""Validating an uploaded data set of captioned images: every bad file and row is named, every entry accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from difftune_core.config.dataset import DatasetOptions
from difftune_core.data.archive import Archive, Limits, open_archive
from difftune_core.data.captioned_item import CaptionedItem
from difftune_core.data.findings import Finding, as_findings, few_images, progress_of, write_report
from difftune_core.data.layout import view_of
from difftune_core.data.rows import is_captioned
from difftune_core.data.scan_captioned import CaptionedScan, scan_captioned
from difftune_core.data.skipping import sorted_out
from difftune_core.data.validate import validate
from difftune_core.hooks import Hooks, PhaseEvent, TaskError
from difftune_core.runtime.caches import contents_digest

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
    num_held_out: int
    """Rows of the split that `hold_out` keeps from training."""
    entries: int
    accepted: int
    """Files of the accepted rows, and those that hold rows or captions."""
    rejected: int
    """Files that cannot be used, skipped ones among them."""
    ignored: int
    errors: list[Finding]
    warnings: list[Finding]
    skipped_files: list[Finding]
    ignored_files: list[Finding]
    digest: str | None
    """Of the accepted rows' captions and contents in order; null where there are none."""


@dataclass(frozen=True)
class _Judged:
    """What was found in an archive: the data set, with the faults of both parts, and the part that is held out."""

    result: CaptionedScan = field(default_factory=lambda: CaptionedScan([], [], [], frozenset()))
    held_out: CaptionedScan | None = None
    entries: int = 0
    fatal: tuple[Finding, ...] = ()
    """Why the archive cannot be read."""


def validate_any(path: Path, out: Path, hooks: Hooks, options: DatasetOptions | None = None) -> None:
    """Judge a data set of either form, by what its files are: `validate_captioned`, or `validate` for class folders."""
    try:
        with open_archive(path) as archive:
            captioned = is_captioned(view_of(archive, options or DatasetOptions()))
    except TaskError:  # said by the report
        captioned = False
    (validate_captioned if captioned else validate)(path, out, hooks, options=options)


def validate_captioned(
    path: Path, out: Path, hooks: Hooks, limits: Limits | None = None, options: DatasetOptions | None = None
) -> None:
    """Judge the archive or folder at `path`; write `report.json` and `items.jsonl` into `out`.

    A bad data set is a result, not a failure: nothing is raised for it.

    Raises:
        TaskError: `stopped`, when the caller asked to stop.
    """
    options = options or DatasetOptions()
    hooks.emit(PhaseEvent(phase="validating"))
    entries = 0
    try:
        with open_archive(path, limits) as archive:
            entries = archive.entries
            judged = _judged(archive, options, hooks)
    except TaskError as error:
        if error.code == "stopped":
            raise
        judged = _Judged(entries=entries, fatal=(Finding(error.param or path.name, error.code, str(error), "error"),))
    write_report(_report(judged, options, path.name), map(asdict, judged.result.items), out, hooks)


def _judged(archive: Archive, options: DatasetOptions, hooks: Hooks) -> _Judged:
    result = scan_captioned(archive, options, decode=True, on_file=progress_of(hooks))
    if options.splits != "hold_out":
        return _Judged(result, entries=archive.entries)
    held_out = scan_captioned(archive, options.held_out(), decode=True, on_file=progress_of(hooks))
    of_both = {refusal.path for refusal in held_out.ignored}
    merged = CaptionedScan(
        result.items,
        list(dict.fromkeys([*result.refused, *held_out.refused])),
        [refusal for refusal in result.ignored if refusal.path in of_both],
        result.sources | held_out.sources,
        [*result.warnings, *held_out.warnings],
    )
    return _Judged(merged, held_out, archive.entries)


def _report(judged: _Judged, options: DatasetOptions, name: str) -> CaptionedReport:
    result = judged.result
    items, others = result.items, judged.held_out.items if judged.held_out else []
    wrong, skipped = sorted_out(result.refused, len(items) + len(others), options, name)
    errors = [*judged.fatal, *as_findings(wrong, "error")]
    if not errors and len(items) < MIN_ITEMS:
        found = f"{len(items)} images with captions were found; at least {MIN_ITEMS} are needed"
        errors.append(Finding(name, "too_few_rows", f"{found} (metadata.jsonl, or .txt files)", "error"))
    named = {path for item in [*items, *others] for path in (item.path, item.control) if path}
    accepted = len(named | result.sources)
    return CaptionedReport(
        ok=not errors,
        form="captioned",
        num_items=len(items),
        num_captions=len({item.caption for item in items}),
        has_controls=any(item.control for item in items),
        num_held_out=len(others),
        entries=judged.entries,
        accepted=accepted,
        rejected=judged.entries - accepted - len(result.ignored),
        ignored=len(result.ignored),
        errors=errors,
        warnings=[*as_findings(result.warnings, "warning"), *few_images(len(items), name), *_repeated(items)],
        skipped_files=as_findings(skipped, "skipped"),
        ignored_files=as_findings(result.ignored, "ignored"),
        digest=contents_digest(item.contents for item in items) if items else None,
    )


def _repeated(items: list[CaptionedItem]) -> Iterator[Finding]:
    """Images with the bytes of an earlier one."""
    first: dict[str, CaptionedItem] = {}
    for item in items:
        before = first.setdefault(item.sha256, item)
        if before is not item:
            same = "and the same caption" if item.caption == before.caption else "with another caption"
            yield Finding(item.path, "duplicate_image", f"the same content as {before.path}, {same}", "warning")
