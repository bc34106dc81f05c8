"""A base model on disk: a folder with a card and the files of its family."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from difftune_core.config.card import BaseModelCard
from difftune_core.config.retention import RetentionSetConfig
from difftune_core.diffusion.process import Process
from difftune_core.files import folder_digest
from difftune_core.networks.autoencoder import Autoencoder
from difftune_core.networks.state import CONFIG, pixels_per_latent
from difftune_core.retention.sample import Drawer
from difftune_core.runtime.foreign import reading


@dataclass(frozen=True)
class BaseModel(ABC):
    """A base model's folder: `card.json`, `vae/` where it has an autoencoder, and what its family adds."""

    folder: Path
    card: BaseModelCard
    compiled: bool = field(default=False, kw_only=True)
    """Whether blocks of networks that draw the model's images are compiled."""

    @abstractmethod
    def anatomy(self) -> dict[str, Any]:
        """Read from the files what the card repeats of them.

        Raises:
            TaskError: `unreadable_weights` or `model_mismatch`, naming the file.
        """

    @abstractmethod
    def process(self) -> Process:
        """Say how noise entered in the model's training."""

    @abstractmethod
    def drawer(self, config: RetentionSetConfig, device: torch.device | str) -> Drawer:
        """Load the model as a function that draws the images of a retention set."""

    def load_autoencoder(self, device: torch.device | str = "cpu") -> Autoencoder:
        """Load the frozen autoencoder."""
        return Autoencoder(self.folder / "vae", device)

    def autoencoder_digest(self) -> str:
        """Identify the autoencoder's weights and config: part of the key of latent caches."""
        return folder_digest(self.folder / "vae")

    def pixels_per_latent(self) -> int:
        """Pixels of a side for one of its latents.

        Raises:
            TaskError: `unreadable_weights`.
        """
        with reading(f"vae/{CONFIG}", "vae", "unreadable_weights"):
            config = json.loads((self.folder / "vae" / CONFIG).read_bytes())
            return pixels_per_latent(config["block_out_channels"])
