"""`python -m migrations.backup {backup|restore} FOLDER`, on the database and store of the settings."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from api.private import write_privately
from api.settings import Settings
from api.storage import StoreError
from migrations.backup.manifest import BackupError, Manifest
from migrations.backup.run import make_backup, restore_backup
from migrations.run import RevisionError

_SHOWN = 20


def main() -> int:
    """Back up or restore; return 0 if nothing is missing, 1 if something is, 2 if it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m migrations.backup", description=__doc__)
    parser.add_argument("verb", choices=["backup", "restore"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--with-objects", action="store_true", help="copy the objects too, not only their checksums")
    parser.add_argument("--json", action="store_true", help="say what was done as JSON")
    arguments = parser.parse_args()
    write_privately()
    settings, folder = Settings(), arguments.folder.resolve()
    try:
        if arguments.verb == "backup":
            manifest = make_backup(settings, folder, with_objects=arguments.with_objects)
            lacking = {"missing from the store": manifest.missing}
        else:
            restored = restore_backup(settings, folder)
            manifest = restored.manifest
            lacking = {"missing from the store": restored.missing, "damaged in the store": restored.damaged}
    except (BackupError, RevisionError, StoreError, SQLAlchemyError, OSError) as error:
        print(f"difftune: {error}", file=sys.stderr)  # noqa: T201  # a command's own answer
        return 2
    if arguments.json:
        print(_as_json(arguments.verb, manifest, folder, lacking))  # noqa: T201  # as above
        return 1 if any(lacking.values()) else 0
    print(_done(arguments.verb, manifest, folder, lacking))  # noqa: T201  # as above
    for what, keys in lacking.items():
        for key in keys[:_SHOWN]:
            print(f"{what}: {key}", file=sys.stderr)  # noqa: T201  # as above
        if len(keys) > _SHOWN:
            print(f"{what}: {len(keys) - _SHOWN} more", file=sys.stderr)  # noqa: T201  # as above
    return 1 if any(lacking.values()) else 0


def _as_json(verb: str, manifest: Manifest, folder: Path, lacking: dict[str, list[str]]) -> str:
    """Return what was done, for programs; `missing` and `damaged` are keys of objects."""
    told = {what.partition(" ")[0]: keys for what, keys in lacking.items()}
    objects = {"objects": len(manifest.objects), "bytes": sum(entry.bytes for entry in manifest.objects)}
    counted = {"rows": sum(manifest.rows.values()), **objects, "with_objects": manifest.with_objects}
    return json.dumps({"done": verb, "folder": str(folder), **counted, **told})


def _done(verb: str, manifest: Manifest, folder: Path, lacking: dict[str, list[str]]) -> str:
    """Return what was copied and what was only looked at."""
    rows, size = f"{sum(manifest.rows.values())} rows", sum(entry.bytes for entry in manifest.objects)
    objects = f"{len(manifest.objects)} objects ({size} bytes)"
    if verb == "backup" and manifest.with_objects:
        return f"{rows} and {objects} written to {folder}"
    if verb == "backup":
        return f"{rows} and a list of {objects} written to {folder}; the objects themselves stay in the store alone"
    named = {entry.key for entry in manifest.objects}
    whole = len(named.difference(*lacking.values()))
    source = "" if manifest.with_objects else ", none of which was in the backup"
    return f"{rows} restored from {folder}; of {objects}{source}, {whole} are whole in the store"


if __name__ == "__main__":
    sys.exit(main())
