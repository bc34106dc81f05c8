"""Small pictures of a data set for people to look at, made while its validation has each file decoded anyway."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType

from difftune_core.config.previews import ENTRY, FIRST, FOOTER, MAGIC, Entry
from difftune_core.data.items import Item
from difftune_core.files import write_durably

PREVIEWS_FILE = "previews.bin"
_CHUNK = 1 << 20
MOST_OF_ALL = 4_000
"""Files that get a preview whatever their folder; beyond them the first of each folder do."""
MOST_OF_FOLDER = 48
MOST = 20_000
"""Files that get a preview at most: some 60 MB of pictures."""


class Previews:
    """Pictures that are put aside as files are judged, and found by path until the items are known."""

    def __init__(self) -> None:
        """Put pictures aside where the system puts such things, under no name."""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  closed by __exit__
        self._at = 0
        self._found: dict[str, tuple[int, int]] = {}
        self._of_folder: Counter[str] = Counter()

    def __enter__(self) -> Previews:  # noqa: PYI034  beartype knows no Self outside a decorated class
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()

    def keeper(self, path: str) -> Callable[[bytes], None] | None:
        """What takes the preview of a file; None where there are enough of its kind."""
        folder = path.rpartition("/")[0]
        self._of_folder[folder] += 1
        count = len(self._found)
        if count < MOST_OF_ALL or (count < MOST and self._of_folder[folder] <= MOST_OF_FOLDER):
            return lambda picture: self._keep(path, picture)
        return None

    def write(self, path: Path, items: Sequence[Item], items_file: Path) -> None:
        """Write the file of the items' pictures; `items_file` has a line for each item."""
        self._file.seek(0)
        pictures = iter(lambda: self._file.read(_CHUNK), b"")
        with items_file.open("rb") as lines:
            write_durably(path, chain(pictures, self._index(items, _beginnings(lines))))

    def _index(self, items: Sequence[Item], beginnings: Iterator[int]) -> Iterator[bytes]:
        firsts: dict[str, int] = {}
        for place, (item, line) in enumerate(zip(items, beginnings, strict=True)):
            if (name := getattr(item, "class_name", None)) is not None:
                firsts.setdefault(name, place)
            at = {role: self._found.get(path, (0, 0)) for role, path, _ in item.files}
            yield ENTRY.pack(*Entry(line, *at.get("image", (0, 0)), *at.get("control", (0, 0))))
        yield from (FIRST.pack(firsts[name]) for name in sorted(firsts))
        yield FOOTER.pack(MAGIC, len(items), len(firsts))

    def _keep(self, path: str, picture: bytes) -> None:
        self._file.write(picture)
        self._found[path] = (self._at, len(picture))
        self._at += len(picture)


def _beginnings(lines: Iterator[bytes]) -> Iterator[int]:
    at = 0
    for line in lines:
        yield at
        at += len(line)
