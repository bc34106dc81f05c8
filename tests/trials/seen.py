"""What the product makes of one input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difftune_core.data.images import load_rgb
from difftune_core.files import sha256_file

_CONFIG = "S0.json"
_SHARED = re.compile(r"(\d+) of (\d+) (?:held-out|validation)")


@dataclass(frozen=True)
class Seen:
    """The report of a validation and its items."""

    report: dict[str, Any]
    items: list[dict[str, Any]]

    def codes(self, kind: str) -> set[str]:
        """Codes of the findings of a kind: `errors`, `warnings`, `ignored_files`."""
        return {str(finding["code"]) for finding in self.report[kind]}

    @property
    def ok(self) -> bool:
        """Taken, with every file accounted for."""
        return bool(self.report["ok"]) and self.is_whole

    @property
    def is_whole(self) -> bool:
        """Whether every file of the archive was accounted for."""
        whole = self.report["accepted"] + self.report["rejected"] + self.report["ignored"]
        return bool(whole == self.report["entries"])

    @property
    def said(self) -> str:
        """All errors' texts."""
        return "\n".join(str(finding["message"]) for finding in self.report["errors"])

    @property
    def captions(self) -> list[str]:
        """Captions of the items."""
        return [str(item["caption"]) for item in self.items]


def command(*arguments: str | Path, out: Path) -> str:
    """What `python -m difftune_core ... --out OUT` prints."""
    given = [sys.executable, "-m", "difftune_core", *map(str, arguments), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(given, capture_output=True, text=True, check=False, env=environment)
    return done.stdout + done.stderr


def validated(path: Path, out: Path, *options: str) -> Seen:
    """The verdict on an archive."""
    out.mkdir(parents=True)
    (out / "config.json").write_text("{}", encoding="utf-8")
    told = command("validate", out / "config.json", "--data", path, *options, out=out)
    if not (out / "report.json").is_file():
        raise RuntimeError(told)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    lines = (out / "items.jsonl").read_text(encoding="utf-8").splitlines()
    return Seen(report, [json.loads(line) for line in lines])


def trained(config: Path, data: Path, out: Path, *options: str | Path) -> tuple[str, str]:
    """(sha256 of the weights after a short training, what it printed)."""
    told = command("train", config, "--data", data, *options, out=out)
    weights = sorted(out.glob("checkpoints/*/model.safetensors"))
    if not weights:
        raise RuntimeError(told)
    return sha256_file(weights[-1]), told


def shared_images(folder: Path, validation: str, out: Path) -> tuple[int, int] | None:
    """(how many of the validation images are training images too, of how many), as training tells it."""
    config = folder.parent / "01_split_cache" / _CONFIG
    _, told = trained(config, folder / "colours.zip", out, "--validation", folder / validation)
    found = _SHARED.search(told)
    return (int(found[1]), int(found[2])) if found else None


def colour(path: Path) -> list[int]:
    """The first pixel of a picture, as training sees it."""
    return [int(level) for level in load_rgb(path.read_bytes(), 8)[0, 0]]
