"""Validating an uploaded data set: every bad file is named, every entry is accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from difftune_core.config.dataset import DatasetOptions
from difftune_core.data.archive import Archive, Limits, open_archive
from difftune_core.data.findings import Finding, as_findings, few_images, progress_of, similar_names, write_report
from difftune_core.data.scan import FoundImage, Scan, scan
from difftune_core.data.skipping import sorted_out
from difftune_core.hooks import Hooks, PhaseEvent, TaskError
from difftune_core.runtime.caches import contents_digest

FORM = "class_folders"
MIN_IMAGES_PER_CLASS = 2


@dataclass(frozen=True)
class ValidationReport:
    """`report.json`. `accepted + rejected + ignored = entries`; any error makes `ok` false."""

    ok: bool
    form: str
    """`class_folders`, which tells this report from that of captioned images."""
    num_items: int
    class_names: list[str]
    class_counts: dict[str, int]
    num_held_out: int
    """Images of the split that `hold_out` keeps from training."""
    entries: int
    accepted: int
    rejected: int
    """Files that cannot be used, skipped ones among them."""
    ignored: int
    errors: list[Finding]
    warnings: list[Finding]
    skipped_files: list[Finding]
    ignored_files: list[Finding]
    digest: str | None
    """Of the accepted images' classes and contents in order; null where there are none."""


@dataclass(frozen=True)
class _Judged:
    """What was found in an archive: the data set, and the part of it that is held out."""

    result: Scan = field(default_factory=lambda: Scan([], [], []))
    held_out: Scan | None = None
    entries: int = 0
    fatal: tuple[Finding, ...] = ()
    """Why the archive cannot be read."""


def validate(
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
    write_report(_report(judged, options, path.name), _items(judged.result), out, hooks)


def _judged(archive: Archive, options: DatasetOptions, hooks: Hooks) -> _Judged:
    result = scan(archive, options, decode=True, on_file=progress_of(hooks))
    if options.splits != "hold_out":
        return _Judged(result, entries=archive.entries)
    held_out = scan(archive, options.held_out(), decode=True, on_file=progress_of(hooks))
    of_both = {refusal.path for refusal in held_out.ignored}
    merged = Scan(
        result.found,
        list(dict.fromkeys([*result.refused, *held_out.refused])),
        [refusal for refusal in result.ignored if refusal.path in of_both],
        [*result.warnings, *held_out.warnings],
        [*result.faults, *held_out.faults],
    )
    return _Judged(merged, held_out, archive.entries)


def _report(judged: _Judged, options: DatasetOptions, name: str) -> ValidationReport:
    result = judged.result
    counts = Counter(image.class_name for image in result.found)
    num_held_out = len(judged.held_out.found) if judged.held_out else 0
    accepted = len(result.found) + num_held_out
    wrong, skipped = sorted_out(result.refused, accepted, options, name)
    errors = [*judged.fatal, *as_findings([*wrong, *result.faults], "error"), *_small_classes(counts)]
    errors += _other_classes(result, judged.held_out)
    if not result.found and not judged.fatal:
        errors.append(Finding(name, "no_images", "there is no image that can be used", "error"))
    pairs = ((image.class_name, image.sha256) for image in result.found)
    rejected = judged.entries if judged.fatal else len(result.refused)
    return ValidationReport(
        ok=not errors,
        form=FORM,
        num_items=len(result.found),
        class_names=list(result.class_names),
        class_counts={name: counts[name] for name in result.class_names},
        num_held_out=num_held_out,
        entries=judged.entries,
        accepted=accepted,
        rejected=rejected,
        ignored=len(result.ignored),
        errors=errors,
        warnings=[*as_findings(result.warnings, "warning"), *_about_set(result, name), *_duplicates(result.found)],
        skipped_files=as_findings(skipped, "skipped"),
        ignored_files=as_findings(result.ignored, "ignored"),
        digest=contents_digest(pairs) if result.found else None,
    )


def _about_set(result: Scan, name: str) -> Iterator[Finding]:
    """What makes figures meaningless, or hints at a mistake in the folders."""
    yield from few_images(len(result.found), name)
    if len(result.class_names) == 1:
        message = "there is one class: labels say nothing, and figures by class are those of the whole"
        yield Finding(result.class_names[0], "single_class", message, "warning")
    yield from similar_names(result.class_names)


def _small_classes(counts: Counter[str]) -> list[Finding]:
    message = "the class has {} usable image; at least {} are needed"
    return [
        Finding(name, "class_too_small", message.format(count, MIN_IMAGES_PER_CLASS), "error")
        for name, count in sorted(counts.items())
        if count < MIN_IMAGES_PER_CLASS
    ]


def _other_classes(result: Scan, held_out: Scan | None) -> list[Finding]:
    """Classes that only one of the two parts has, as between two files."""
    if held_out is None:
        return []
    message = "training and held-out images must have the same classes; only one of them has this one"
    differing = sorted(set(result.class_names) ^ set(held_out.class_names))
    return [Finding(name, "class_mismatch", message, "error") for name in differing]


def _duplicates(found: list[FoundImage]) -> list[Finding]:
    """Images with the same bytes as an earlier one; worse where their classes differ."""
    first: dict[str, FoundImage] = {}
    findings = []
    for image in found:
        before = first.setdefault(image.sha256, image)
        if before is image:
            continue
        if before.class_name == image.class_name:
            finding = Finding(image.path, "duplicate_image", f"the same content as {before.path}", "warning")
        else:
            text = f"the same content as {before.path}, but in another class"
            finding = Finding(image.path, "conflicting_label", text, "warning")
        findings.append(finding)
    return findings


def _items(result: Scan) -> Iterator[dict[str, Any]]:
    """The accepted images with their labels, sorted by path."""
    labels = {name: label for label, name in enumerate(result.class_names)}
    return ({**asdict(image), "label": labels[image.class_name]} for image in result.found)
