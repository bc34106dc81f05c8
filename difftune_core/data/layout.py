"""Which files of an archive are a data set's: folders that are splits, shards, and the folder above the classes."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain

from difftune_core.config.dataset import DatasetOptions, HeldOutOptions
from difftune_core.data.archive import Archive
from difftune_core.data.columns import Column
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
    members: Sequence[Member]
    ignored: list[Refusal]
    name: Callable[[Member], str]
    """A member's path without the shard and without the folder of the split."""
    folders: list[str]
    """Folders that have an entry of their own, named as `names` are."""
    other_splits: frozenset[str]
    """Paths of files in splits that were not asked for: rows that name them are no faults."""

    @cached_property
    def pictures(self) -> Sequence[Member]:
        """Files that are pictures by their names; all files where no name says so."""
        found = _Some(self.members, [n for n, member in enumerate(self.members) if has_picture_name(member.path)])
        return found if len(found) else self.members

    def picture_names(self) -> Iterator[str]:
        """Names of the pictures."""
        return map(self.name, self.pictures)


class _Some(Column[Member]):
    """Some members, by their places among others."""

    def __init__(self, members: Sequence[Member], places: Iterable[int]) -> None:
        self._members, self._places = members, array("I", places)

    def __len__(self) -> int:
        return len(self._places)

    def at(self, number: int) -> Member:
        return self._members[self._places[number]]


def view_of(archive: Archive, options: DatasetOptions) -> View:
    """Return what `options` take of the archive.

    Raises:
        TaskError: `splits_found` where there are splits and the options do not say which is meant; `no_split` where
            there is none of that name.
    """
    folders = [f"{folder}/" for folder in archive.folders]
    split_of = _Splits(chain((member.path for member in archive), folders))
    wanted = _wanted(options, split_of.names, archive.name)
    places, ignored, others = array("I"), list(archive.junk), set()
    for place, member in enumerate(archive):
        split, _ = split_of(member.path)
        if wanted is None or split == wanted or (split is None and not has_picture_name(member.path)):
            places.append(place)
        else:
            others.add(member.path)
            ignored.append(Refusal(member.path, "other_split", f"it is not in the split {wanted!r}"))
    judged = [split_of(folder) for folder in folders]
    return View(
        archive,
        archive.members if len(places) == len(archive.members) else _Some(archive.members, places),
        ignored,
        lambda member: split_of(member.path)[1].removeprefix(member.shard),
        [name.rstrip("/") for split, name in judged if split == wanted],
        frozenset(others),
    )


def class_root(names: Iterable[str]) -> str:
    """The folders above all class folders, with a `/` at the end; empty where there are none.

    Args:
        names: paths of the pictures; those that lie in no folder are passed over.
    """
    first: list[str] | None = None
    common = shortest = 0
    for name in names:
        if "/" not in name:
            continue
        parts = name.split("/")[:-1]
        if first is None:
            first, common, shortest = parts, len(parts), len(parts)
        shortest = min(shortest, len(parts))
        pairs = enumerate(zip(first[:common], parts, strict=False))
        common = next((n for n, (a, b) in pairs if a != b), min(common, len(parts)))
    return "".join(f"{part}/" for part in (first or [])[: min(common, shortest - 1)])


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


class _Splits:
    """Splits of an archive: what split a path is in, and the path without that folder.

    A folder is no split unless another lies beside it, so that a class may be called `train`.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._beside: dict[str, set[str]] = {}
        """Folder -> the splits that folders in it are named after."""
        folders = dict.fromkeys(path.rpartition("/")[0] for path in paths)
        for folder in folders:
            parts = folder.split("/")
            for at, part in enumerate(parts):
                if split := _split_named(part):
                    self._beside.setdefault("/".join(parts[:at]), set()).add(split)
        self.names = sorted({split for folder in folders if (split := self(f"{folder}/")[0])})

    def __call__(self, path: str) -> tuple[str | None, str]:
        parts = path.split("/")
        for at, part in enumerate(parts[:-1]):
            split = _split_named(part) if len(self._beside.get("/".join(parts[:at]), ())) > 1 else None
            if split:
                return split, "/".join(parts[:at] + parts[at + 1 :])
        return None, path


@lru_cache(maxsize=1024)
def _split_named(part: str) -> str | None:
    shard = _SHARD.fullmatch(part.casefold())
    return _SPLIT_OF.get(shard[1] if shard else part.casefold())
