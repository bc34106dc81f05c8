"""`difftune sample-data`: a small archive of drawn flowers to try the service with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.printing import tell
from cli.service import AsJson
from cli.settings import failed
from difftune.flowers import KINDS
from difftune.flowers import sample_data as write_sample_data

Target = Annotated[Path, typer.Argument(help="The zip to write.")]
PerClass = Annotated[int, typer.Option(help="Flowers of each kind.", min=1, max=10_000)]
Seed = Annotated[int, typer.Option(help="Another number draws other flowers: held-out images, say.", min=0)]


def sample_data(target: Target, *, per_class: PerClass = 40, seed: Seed = 0, as_json: AsJson = False) -> None:
    """Write a zip of drawn flowers, a folder for each kind: images to try the service with."""
    try:
        write_sample_data(target, per_class=per_class, seed=seed)
    except FileExistsError:
        raise failed(f"{target} exists already") from None
    except OSError as error:
        raise failed(f"{target} cannot be written: {error.strerror}") from None
    said = f"{target}: {per_class} pictures of each of {', '.join(KINDS)}"
    tell({"path": str(target), "per_class": per_class, "classes": KINDS}, said, as_json=as_json)
