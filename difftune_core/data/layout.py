"""Which files of an archive are a data set's: folders that are splits, shards, and the folder above the classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from difftune_core.config.dataset import DatasetOptions, HeldOutOptions
from difftune_core.data.archive import Archive
from difftune_core.data.formats import has_picture_name
from difftune_core.data.members import Member, Refusal
from difftune_core.hooks import TaskError

_NAMES = {
    "train": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "dev", "eval"),
    "test": ("test", "testing", "tst"),
}
_SPLIT_OF = {name: split for split, names in _NAMES.items() for name in names}
_SHARD = re.compile(r"([a-z]+)(?:[-_.]?\d[-_\d]*)?(?:-of-\d+)?\.(?:tar|tar\.gz|tgz)")  # train-000017.tar


@dataclass(frozen=True)
class View:
    """The files that the data set is made of, in the archive's own order, and what stays out without being at fault."""

    archive: Archive
    members: list[Member]
    ignored: list[Refusal]
    names: dict[str, str]
    """Path -> path without the shard and without the folder of the split, for `members`."""
    folders: list[str]
    """Folders that have an entry of their own, named as `names` are."""
    other_splits: frozenset[str]
    """Paths of files in splits that were not asked for: rows that name them are no faults."""

    @property
    def pictures(self) -> list[Member]:
        """Files that are pictures by their names; all files where no name says so."""
        return [member for member in self.members if has_picture_name(member.path)] or self.members


def view_of(archive: Archive, options: DatasetOptions) -> View:
    """What `options` take of the archive.

    Raises:
        TaskError: `splits_found` where there are splits and the options do not say which is meant; `no_split` where
            there is none of that name.
    """
    found = _splits([*(member.path for member in archive), *(f"{folder}/" for folder in archive.folders)])
    wanted = _wanted(options, sorted({split for split, _ in found.values() if split}), archive.name)
    members, ignored, others = [], list(archive.junk), set()
    for member in archive:
        split, _ = found[member.path]
        if wanted is None or split == wanted or (split is None and not has_picture_name(member.path)):
            members.append(member)
        else:
            others.add(member.path)
            ignored.append(Refusal(member.path, "other_split", f"it is not in the split {wanted!r}"))
    names = {member.path: found[member.path][1].removeprefix(member.shard) for member in members}
    folders = [name.rstrip("/") for path, (split, name) in found.items() if path.endswith("/") and split == wanted]
    return View(archive, members, ignored, names, folders, frozenset(others))


def class_root(names: Sequence[str]) -> str:
    """The folders above all class folders, with a `/` at the end; empty where there are none.

    Args:
        names: paths of the pictures; those that lie in no folder are passed over.
    """
    parts = [name.split("/")[:-1] for name in names if "/" in name]
    if not parts:
        return ""
    first, last = min(parts), max(parts)
    common = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    depth = min(common, min(map(len, parts)) - 1)
    return "".join(f"{part}/" for part in first[:depth])


def _wanted(options: DatasetOptions, there: list[str], name: str) -> str | None:
    """The split that is meant; None where all files are."""
    if options.splits == "refuse":
        if there:
            raise TaskError("splits_found", _advice(there), name)
        return None
    if options.splits != "hold_out":
        wanted = options.splits
    elif isinstance(options, HeldOutOptions):
        wanted = next((split for split in ("validation", "test") if split in there), "validation")
    else:
        wanted = "train"
    if wanted not in there:
        found = f"there are {', '.join(there)}" if there else "there are no folders of splits"
        raise TaskError("no_split", f"the archive has no folder of the split {wanted!r}; {found}", name)
    return wanted


def _advice(there: list[str]) -> str:
    return (
        f"the archive has folders of the splits {', '.join(there)}, which are never merged: send them as two files, "
        "one as training_file and one as validation_file, or say with the data set's setting `splits` which of them "
        "it is (`train`, `validation`, `test`), or `hold_out` to train on the one and be judged by the other"
    )


def _splits(paths: Sequence[str]) -> dict[str, tuple[str | None, str]]:
    """Path -> its split, and the path without that folder.

    A folder is no split unless another lies beside it, so that a class may be called `train`.
    """
    named = {path: [(at, _split_named(part)) for at, part in enumerate(path.split("/")[:-1])] for path in paths}
    beside: dict[str, set[str]] = {}
    for path, places in named.items():
        for at, split in places:
            if split:
                beside.setdefault(_above(path, at), set()).add(split)
    found: dict[str, tuple[str | None, str]] = {}
    for path, places in named.items():
        at, split = next(((at, s) for at, s in places if s and len(beside[_above(path, at)]) > 1), (-1, None))
        parts = path.split("/")
        found[path] = (split, path if split is None else "/".join(parts[:at] + parts[at + 1 :]))
    return found


def _above(path: str, at: int) -> str:
    return "/".join(path.split("/")[:at])


def _split_named(part: str) -> str | None:
    shard = _SHARD.fullmatch(part.casefold())
    return _SPLIT_OF.get(shard[1] if shard else part.casefold())
