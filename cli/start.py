"""The beginning of `difftune`: commands, or the extra of the package that they need and do not find."""

from __future__ import annotations

import sys

from cli.extras import extra_of


def main() -> None:
    """Run the command line."""
    try:
        from cli.main import main as run

        run()
    except ModuleNotFoundError as error:
        extra = extra_of(error.name or "")
        if extra is None:
            raise
        sys.exit(f"difftune: this needs the extra {extra!r}: pip install 'difftune[{extra}]'")
