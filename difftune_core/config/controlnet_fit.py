"""Whether a ControlNet can stand beside a UNet: their configs compared, or at submit their cards. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from difftune_core.config.card import BaseModelCard, CompanionCard
from difftune_core.hooks import TaskError

_DEFAULTS: dict[str, Any] = {
    "in_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 1280,
    "encoder_hid_dim": None,
    "class_embed_type": None,
    "num_class_embeds": None,
    "addition_embed_type": None,
}
"""What both must have alike, with the value that diffusers takes where a config is silent.

Channels and layers give the residuals that the UNet adds, `cross_attention_dim` and `encoder_hid_dim` the text states,
the others what else is embedded. Prediction and attention heads may differ: neither passes between the two.
"""
_PER_BLOCK = ("layers_per_block", "cross_attention_dim")  # a UNet may state one value a block


def check_controlnet_fits(
    controlnet_config: Mapping[str, Any], unet_config: Mapping[str, Any], *, controlnet: str = "", base: str = ""
) -> None:
    """Refuse a ControlNet whose residuals or inputs are not those of the UNet.

    Args:
        controlnet_config: as in diffusers' `config.json`.
        unet_config: likewise.
        controlnet: id for the message.
        base: id of the UNet's base model for the message.

    Raises:
        TaskError: `model_mismatch`, with every field that differs and both values.
    """
    theirs, unet = anatomy_of(controlnet_config), anatomy_of(unet_config)
    wrong = [f"{name} is {theirs[name]}, the UNet's {unet[name]}" for name in unet if theirs[name] != unet[name]]
    if wrong:
        pair = f"the ControlNet{_quoted(controlnet)} does not fit the base model{_quoted(base)}"
        raise TaskError("model_mismatch", f"{pair}: {'; '.join(wrong)}", "control.init_from")


def check_cards_fit(controlnet: CompanionCard, base: BaseModelCard) -> None:
    """Refuse a ControlNet that does not fit by what both cards state.

    A card that states nothing is left to whoever loads the weights.

    Raises:
        TaskError: `model_mismatch`, with every field that differs and both values.
    """
    stated = controlnet.anatomy.keys() & base.unet.keys()
    theirs, unet = ({name: anatomy[name] for name in stated} for anatomy in (controlnet.anatomy, base.unet))
    check_controlnet_fits(theirs, unet, controlnet=controlnet.id, base=base.id)


def anatomy_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a ControlNet and a UNet must have alike, as they are compared; for cards."""
    return {name: _value(config, name) for name in _DEFAULTS}


def _value(config: Mapping[str, Any], name: str) -> Any:
    """A field in one form: a list for each block becomes one value where all are equal."""
    value = config.get(name, _DEFAULTS[name])
    if not isinstance(value, list | tuple):
        return value
    values = list(value)
    return values[0] if name in _PER_BLOCK and len({str(v) for v in values}) == 1 else values


def _quoted(model_id: str) -> str:
    return f" {model_id!r}" if model_id else ""
