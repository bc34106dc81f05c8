"""`python -m api.doctor`: a JSON line a finding about broker, store, disk, secrets and base models."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from api.doctor import broker, disk, models, objects, store
from api.findings import examined
from api.settings import Settings


def main() -> None:
    """Print findings as they are made."""
    parser = argparse.ArgumentParser(prog="python -m api.doctor", description=__doc__)
    parser.add_argument("--all", action="store_true", help="look for every object, not for some")
    every, settings = parser.parse_args().all, Settings()
    looks = {
        "broker": broker.look,
        "object store": store.look,
        "objects": partial(objects.look, every=every),
        "data folder": disk.look,
        "secrets": disk.look_at_secrets,
        "base models": models.look,
    }
    for check, look in looks.items():
        for finding in examined(check, lambda look=look: look(settings)):  # type: ignore[misc]  # bound now
            sys.stdout.write(f"{finding.model_dump_json()}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
