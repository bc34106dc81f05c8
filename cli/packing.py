"""A folder of images as an archive: packed into a file beside this computer's other temporary ones, never in memory."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from cli.client import ServiceError
from cli.transfer import bar


@contextmanager
def archive_of(path: Path, console: Console) -> Iterator[Path]:
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
            _pack(path, packed, console)
        except (OSError, UnicodeEncodeError) as error:
            raise ServiceError(f"the folder {path} cannot be packed: {error}") from None
        yield packed


def _pack(folder: Path, target: Path, console: Console) -> None:
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
        bar(console, f"packing {folder.name}") as heard,
        zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive,
    ):
        for file in files:  # pictures are compressed as they are
            archive.write(file, file.relative_to(folder).as_posix())
            done += file.stat().st_size
            heard(done, size)
