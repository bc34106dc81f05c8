"""Ways in which images become square."""

from __future__ import annotations

from typing import Literal

CropName = Literal["center", "resize", "random"]
