from __future__ import annotations

from typing import Any

import pytest

from difftune_core.config.card import BaseModelCard, CompanionCard
from difftune_core.config.controlnet_fit import anatomy_of, check_cards_fit, check_controlnet_fits
from difftune_core.hooks import TaskError

UNET = {
    "in_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}


@pytest.mark.parametrize(
    "unet",
    [UNET, {**UNET, "block_out_channels": [320, 640, 1280, 1280]}, {**UNET, "layers_per_block": [2, 2, 2, 2]}],
)
def test_the_same_sizes_fit_however_they_are_written(unet: dict[str, Any]) -> None:
    check_controlnet_fits({"cross_attention_dim": 768}, unet)
    check_controlnet_fits({**UNET, "num_class_embeds": None, "conditioning_channels": 3}, unet)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("in_channels", 9),
        ("block_out_channels", (320, 640, 1280)),
        ("layers_per_block", 1),
        ("cross_attention_dim", 1024),
        ("addition_embed_type", "text_time"),
        ("layers_per_block", [2, 2, 1, 2]),
    ],
)
def test_a_difference_is_refused_with_field_and_both_values(field: str, value: Any) -> None:
    with pytest.raises(TaskError, match=f"{field} is .*, the UNet's ") as caught:
        check_controlnet_fits({**UNET, field: value}, UNET)
    assert (caught.value.code, caught.value.param) == ("model_mismatch", "control.init_from")


def test_all_differences_are_named_at_once() -> None:
    with pytest.raises(TaskError, match="cross_attention_dim is 1024, the UNet's 768") as caught:
        check_controlnet_fits({**UNET, "cross_attention_dim": 1024, "layers_per_block": 1}, UNET)
    assert "layers_per_block is 1, the UNet's 2" in str(caught.value)


def test_cards_are_compared_by_what_both_state() -> None:
    base = BaseModelCard(
        id="sd", family="stable-diffusion", image_size=64, feature_extractor="x", digest="0", unet=anatomy_of(UNET)
    )
    wide = {**anatomy_of(UNET), "cross_attention_dim": 1024}
    net = CompanionCard(kind="controlnet", id="net", digest="0", anatomy=wide)
    with pytest.raises(TaskError, match=r"'net' does not fit the base model 'sd': .*dim is 1024, .* 768$"):
        check_cards_fit(net, base)
    check_cards_fit(net.model_copy(update={"anatomy": anatomy_of(UNET)}), base)
    check_cards_fit(net.model_copy(update={"anatomy": {}}), base)
    check_cards_fit(net.model_copy(update={"anatomy": {"layers_per_block": 2, "later": 1}}), base)
    check_cards_fit(net, base.model_copy(update={"unet": {}}))


def test_a_controlnet_made_from_the_unet_fits() -> None:
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet: Any = UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12,
        norm_num_groups=4,
        attention_head_dim=4,
    )
    check_controlnet_fits(dict(ControlNetModel.from_unet(unet).config), dict(unet.config))
