"""`python -m api.storage` makes the bucket that the settings name, where it is missing."""

from __future__ import annotations

import sys

from api.settings import Settings
from api.storage import StoreError, open_store
from api.storage.s3 import S3Store


def main() -> int:
    """Exit status: 1 where the store does not answer."""
    try:
        store = open_store(Settings())
        made = isinstance(store, S3Store) and store.ensure_bucket()
        store.check()
    except StoreError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("the bucket was made\n" if made else "the store is there\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
