"""A folder of images as an archive: packed into a file beside this computer's other temporary ones, never in memory."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from difftune.service import Heard, ServiceError, unheard

Shown = Callable[[str], AbstractContextManager[Heard]]
"""A bar: given a name, a context that shows how far the thing of that name has come."""


def unshown(_label: str) -> AbstractContextManager[Heard]:
    """Show nothing."""
    return nullcontext(unheard)


@contextmanager
def archive_of(path: Path, shown: Shown = unshown) -> Iterator[Path]:
    """Yield the archive at `path`, or that of the folder there, which is removed with the context.

    Raises:
        ServiceError: there is nothing at `path`, the folder is empty or cannot be read, or there is no room for it.
    """
    path = path.expanduser()
    if not path.is_dir():
        if not path.is_file():
            raise ServiceError(f"there is no file {path}")
        yield path
        return
    with tempfile.TemporaryDirectory() as place:
        packed = Path(place) / f"{path.resolve().name or 'images'}.zip"
        try:
            _pack(path, packed, shown)
        except (OSError, UnicodeEncodeError) as error:
            raise ServiceError(f"the folder {path} cannot be packed: {error}") from None
        yield packed


def _pack(folder: Path, target: Path, shown: Shown) -> None:
    """Store the files of a folder, those that links lead to as well, but follow no links to folders."""
    files = [Path(inside, name) for inside, _, names in os.walk(folder) for name in names]
    files = sorted(file for file in files if file.is_file())
    if not files:
        raise ServiceError(f"there are no files in the folder {folder}")
    size, done = sum(file.stat().st_size for file in files), 0
    if size > shutil.disk_usage(target.parent).free:
        where = f"There is no room for that in {target.parent.parent}; TMPDIR names another folder."
        raise ServiceError(f"the folder {folder} has {size} bytes, which are packed before they are sent. {where}")
    with (
        shown(f"packing {folder.name}") as heard,
        zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive,
    ):
        for file in files:  # pictures are compressed as they are
            archive.write(file, file.relative_to(folder).as_posix())
            done += file.stat().st_size
            heard(done, size)
