"""`python -m api.doctor`: a JSON line a finding about broker, store, disk, secrets and base models."""

from __future__ import annotations

import sys

from api.doctor import broker, disk, models, store
from api.findings import examined
from api.settings import Settings


def main() -> None:
    """Print findings as they are made."""
    settings = Settings()
    looks = {
        "broker": broker.look,
        "object store": store.look,
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
