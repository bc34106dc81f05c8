"""What a config may say of a diffusion transformer."""

from __future__ import annotations

from difftune_core.config.adapter import AdaptFormer, BitFit, DiffFit, FullTuning, Lora, VisualPrompt
from difftune_core.config.card import BaseModelCard
from difftune_core.config.families import FamilyRules


class DiTRules(FamilyRules):
    """A DiT draws classes and takes every adapter."""

    has_teacher = True
    implementation = "difftune_core.families.dit.family:DIT"
    adapters = (FullTuning, Lora, DiffFit, BitFit, AdaptFormer, VisualPrompt)

    def no_chain(self, card: BaseModelCard) -> None:
        """A DiT's chain can be handed over."""
