from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.trials import __doc__ as words
from tests.trials.cases import cases


def main() -> int:
    """Run every case and print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials", description=words)
    parser.add_argument("folder", type=Path, help="folder of the inputs")
    folder = parser.parse_args().folder.resolve()
    right, wrong = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, case in enumerate(cases(folder)):
            out = Path(scratch, str(number))
            out.mkdir()
            try:
                ended = "" if case.run(out) else "another answer came"
            except Exception as error:  # noqa: BLE001  # a case that breaks is wrong, and the others go on
                ended = f"{type(error).__name__}: {str(error)[-500:]}"
            print(f"{'wrong' if ended else 'right'} {case.name}", file=sys.stderr)
            if ended:
                wrong[case.name] = ended
            else:
                right.append(case.name)
    print(json.dumps({"cases": len(right) + len(wrong), "right": len(right), "wrong": len(wrong), "which": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
