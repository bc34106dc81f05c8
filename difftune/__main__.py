"""`python -m difftune` is `difftune`."""

from __future__ import annotations

from difftune.command import main

if __name__ == "__main__":
    main()
