"""The beginning of `difftune`: commands, or the extra of the package that they need and do not find."""

from __future__ import annotations

import sys

from difftune.extras import told_of


def main() -> None:
    """Run the command line."""
    try:
        from cli.main import main as run

        run()
    except ModuleNotFoundError as error:
        told = told_of(error)
        if told is None:
            raise
        sys.exit(f"difftune: {told}")
