"""`python -m migrations.backup {backup|restore} FOLDER`, on the database and store of the settings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from api.settings import Settings
from api.storage import StoreError
from migrations.backup.manifest import BackupError
from migrations.backup.run import make_backup, restore_backup

_SHOWN = 20


def main() -> int:
    """Do it; 0 if nothing is missing, 1 if something is, 2 if it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m migrations.backup", description=__doc__)
    parser.add_argument("verb", choices=["backup", "restore"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--with-objects", action="store_true", help="copy the objects too, not only their checksums")
    arguments = parser.parse_args()
    settings, folder = Settings(), arguments.folder.resolve()
    try:
        if arguments.verb == "backup":
            manifest = make_backup(settings, folder, with_objects=arguments.with_objects)
            lacking = {"missing from the store": manifest.missing}
        else:
            restored = restore_backup(settings, folder)
            manifest = restored.manifest
            lacking = {"missing from the store": restored.missing, "damaged in the store": restored.damaged}
    except (BackupError, StoreError, SQLAlchemyError, OSError) as error:
        print(f"difftune: {error}", file=sys.stderr)  # noqa: T201  # a command's own answer
        return 2
    rows, size = sum(manifest.rows.values()), sum(entry.bytes for entry in manifest.objects)
    done = "written to" if arguments.verb == "backup" else "restored from"
    print(f"{rows} rows and {len(manifest.objects)} objects ({size} bytes) {done} {folder}")  # noqa: T201  # as above
    for what, keys in lacking.items():
        for key in keys[:_SHOWN]:
            print(f"{what}: {key}", file=sys.stderr)  # noqa: T201  # as above
        if len(keys) > _SHOWN:
            print(f"{what}: {len(keys) - _SHOWN} more", file=sys.stderr)  # noqa: T201  # as above
    return 1 if any(lacking.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
