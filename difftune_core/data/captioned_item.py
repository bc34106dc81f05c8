"""One row of a data set of captioned images, and how its two files are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from difftune_core.data.colour import BLACK, WHITE

Role = Literal["image", "control"]
GROUNDS: dict[Role, tuple[int, int, int]] = {"image": WHITE, "control": BLACK}
"""What shows through transparent pixels."""


@dataclass(frozen=True, slots=True)
class CaptionedItem:
    """A row whose files are whole and fit each other; width and height in pixels as shown."""

    path: str
    caption: str
    width: int
    height: int
    sha256: str
    control: str | None
    control_sha256: str | None

    @property
    def contents(self) -> tuple[str, str, str | None]:
        """Caption, and sha256 of image and control: what the row is to a run, whatever its files are called."""
        return self.caption, self.sha256, self.control_sha256
