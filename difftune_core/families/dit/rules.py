"""What a config may say of a diffusion transformer."""

from __future__ import annotations

from difftune_core.config.adapter import AdaptFormer, BitFit, DiffFit, FullTuning, Lora, VisualPrompt
from difftune_core.config.card import BaseModelCard
from difftune_core.config.families import FamilyRules
from difftune_core.config.plan.sizes import NetworkSize
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.dit.sizes import network_size


class DiTRules(FamilyRules):
    """A DiT draws classes and takes every adapter."""

    has_teacher = True
    has_handover = True
    has_time_dropout = True
    implementation = "difftune_core.families.dit.family:DIT"
    adapters = (FullTuning, Lora, DiffFit, BitFit, AdaptFormer, VisualPrompt)

    def network_size(self, config: TransferConfig, card: BaseModelCard, num_classes: int | None) -> NetworkSize:
        """Size by the anatomy that the card states; cards of 0.3.0 state none."""
        if "hidden_size" not in card.anatomy:
            return super().network_size(config, card, num_classes)
        return network_size(card.anatomy, config.method.hyperparameters.adapter, num_classes)

    def no_chain(self, card: BaseModelCard) -> None:
        """A DiT's chain can be handed over."""
