"""Validating an uploaded data set: every bad file and row is named, every entry is accounted for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from difftune_core.config.dataset import DatasetOptions
from difftune_core.data.archive import Archive, Limits, open_archive
from difftune_core.data.columns import Computed, DigestsByName, distinct, grouped
from difftune_core.data.copies import Copies, Key, count_copies
from difftune_core.data.findings import ITEMS_FILE, Finding, as_findings, few_images, progress_of, write_report
from difftune_core.data.forms import CLASS_FOLDERS, form_of
from difftune_core.data.items import ItemT
from difftune_core.data.layout import view_of
from difftune_core.data.previews import PREVIEWS_FILE, Previews
from difftune_core.data.scan import Form, Found, Scan, scan
from difftune_core.data.skipping import sorted_out
from difftune_core.files import file_info
from difftune_core.hooks import ArtifactEvent, Hooks, PhaseEvent, TaskError
from difftune_core.runtime.caches import contents_digest


@dataclass(frozen=True)
class ValidationReport:
    """`report.json`. `accepted + rejected + ignored = entries`, counted in files; any error makes `ok` false."""

    ok: bool
    form: str
    """How the files say what the images are: `class_folders` or `captioned`."""
    num_items: int
    described: dict[str, Any]
    """Fields of the form's own, written in this place: `class_names` and `class_counts`, or `num_captions` (distinct
    ones) and `has_controls`."""
    num_held_out: int
    """Items of the split that `hold_out` keeps from training."""
    entries: int
    accepted: int
    """Files of the accepted items, and those that hold rows or captions."""
    rejected: int
    """Files that cannot be used, skipped ones among them."""
    ignored: int
    errors: list[Finding]
    warnings: list[Finding]
    skipped_files: list[Finding]
    ignored_files: list[Finding]
    digest: str | None
    """Digest of the accepted items' labels and contents in order; null where there are none."""
    copies: Copies
    """How many images occur more than once; its fields stand in its place."""

    def as_json(self) -> dict[str, Any]:
        """The file's content."""
        fields: dict[str, Any] = {}
        for name, value in asdict(self).items():
            fields |= value if name in {"described", "copies"} else {name: value}
        return fields


@dataclass
class _Judged:
    """What judging found in an archive, as far as it could be read."""

    form: Form[Any] = CLASS_FOLDERS
    result: Scan[Any] = field(default_factory=Scan)
    """The data set, with the faults of both parts."""
    held_out: Scan[Any] | None = None
    entries: int = 0
    fatal: Finding | None = None
    """Why the archive cannot be read."""


def validate(
    path: Path, out: Path, hooks: Hooks, limits: Limits | None = None, options: DatasetOptions | None = None
) -> None:
    """Judge the archive or folder at `path`, by the form that its files have.

    It writes `report.json` and `items.jsonl`, and small pictures for people to look at (`previews.bin`).

    A bad data set is a result, not a failure: nothing is raised for it.

    Args:
        path: the data set.
        out: where to write.
        hooks: hear of progress, and say whether a stop is requested.
        limits: what is read at most.
        options: what the set's owner says of it.

    Raises:
        TaskError: `stopped`, a stop was requested.
    """
    options = options or DatasetOptions()
    hooks.emit(PhaseEvent(phase="validating"))
    judged = _Judged()
    with Previews() as previews:
        try:
            with open_archive(path, limits) as archive:
                judged.entries = archive.entries
                _judge(archive, options, hooks, judged, previews)
        except TaskError as error:
            if error.code == "stopped":
                raise
            judged.fatal = Finding(error.param or path.name, error.code, str(error), "error")
        report = _report(judged, options, path.name).as_json()
        write_report(report, judged.form.rows(judged.result.items), out, hooks)
        previews.write(out / PREVIEWS_FILE, judged.result.items, out / ITEMS_FILE)
    hooks.emit(ArtifactEvent(kind="previews", file=file_info(out / PREVIEWS_FILE, out)))


def _judge(archive: Archive, options: DatasetOptions, hooks: Hooks, judged: _Judged, previews: Previews) -> None:
    view, on_file = view_of(archive, options), progress_of(hooks)
    form = judged.form = form_of(view)
    result = scan(view, form, decode=True, on_file=on_file, previews=previews)
    held_out = None
    if options.splits == "hold_out":
        held_out = scan(view_of(archive, options.held_out()), form, decode=True, on_file=on_file)
    judged.held_out = held_out
    judged.result = result if held_out is None else _with_faults_of(result, held_out)


def _with_faults_of(result: Scan[ItemT], held_out: Scan[ItemT]) -> Scan[ItemT]:
    """The data set, with what is to be said of the part that is held out; ignored is what neither part uses."""
    of_both = {refusal.path for refusal in held_out.ignored}
    return Scan(
        result.items,
        list(dict.fromkeys([*result.refused, *held_out.refused])),
        [refusal for refusal in result.ignored if refusal.path in of_both],
        [*result.warnings, *held_out.warnings],
        [*result.faults, *held_out.faults],
        result.sources | held_out.sources,
        result.keys,
    )


def _report(judged: _Judged, options: DatasetOptions, name: str) -> ValidationReport:
    form, result = judged.form, judged.result
    items, others = result.items, judged.held_out.items if judged.held_out else ()
    wrong, skipped = sorted_out(result.refused, len(items) + len(others), options, name)
    errors = as_findings([*wrong, *result.faults], "error")
    if judged.fatal is not None:
        errors = [judged.fatal]
    else:
        errors += form.faults(Found(name, items, others if judged.held_out else None, has_bad_files=bool(wrong)))
    accepted = distinct(chain((path for item in chain(items, others) for _, path, _ in item.files), result.sources))
    warnings = [*as_findings(result.warnings, "warning"), *few_images(len(items), name)]
    return ValidationReport(
        ok=not errors,
        form=form.name,
        num_items=len(items),
        described=form.described(items),
        num_held_out=len(others),
        entries=judged.entries,
        accepted=accepted,
        rejected=judged.entries - accepted - len(result.ignored),
        ignored=len(result.ignored),
        errors=errors,
        warnings=[*warnings, *form.doubts(items), *_repeated(items, form)],
        skipped_files=as_findings(skipped, "skipped"),
        ignored_files=as_findings(result.ignored, "ignored"),
        digest=contents_digest(item.contents for item in items) if items else None,
        copies=_count_copies(result, judged.held_out),
    )


def _count_copies(result: Scan[Any], held_out: Scan[Any] | None) -> Copies:
    """Count equal pictures; JPEGs, which are not decoded in full, by the bytes of their files."""

    def keys_of(images: Sequence[Any], keys: DigestsByName) -> Sequence[Key]:
        return Computed(len(images), lambda place: keys.get(images[place].path, images[place].sha256.encode()))

    def labels_of(images: Sequence[Any]) -> Sequence[str]:
        return Computed(len(images), lambda place: str(images[place].contents[0]))

    items, others = result.items, held_out.items if held_out else ()
    keys = result.keys, held_out.keys if held_out else DigestsByName()
    return count_copies(keys_of(items, keys[0]), keys_of(others, keys[1]), labels_of(items), labels_of(others))


def _repeated(items: Sequence[ItemT], form: Form[ItemT]) -> Iterator[Finding]:
    """Images with the bytes of an earlier one."""
    groups = grouped(item.sha256 for item in items)
    _, first = np.unique(groups, return_index=True)
    for place in np.flatnonzero(first[groups] != np.arange(len(items))).tolist():
        yield form.copied(items[place], items[int(first[groups[place]])])
