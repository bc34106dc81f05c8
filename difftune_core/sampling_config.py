"""Names of reverse processes, shared by every part of the config that samples."""

from __future__ import annotations

from typing import Literal

Sampler = Literal["ddim", "ddpm"]
