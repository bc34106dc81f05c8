"""Plans of jobs of many kinds, kept as files: whatever changes in one is seen, and is meant or is a fault."""

from __future__ import annotations

from typing import Any

import pytest

from cli.plan_card import plan_card
from difftune_core.config.card import BaseModelCard
from difftune_core.config.families import rules_of
from difftune_core.config.plan.circumstances import Circumstances, Device, Rates
from difftune_core.config.plan.fitting import Job, fitted
from difftune_core.config.plan.plan import plan_of
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.controlnet.anatomy import unet_anatomy
from tests.core.plan.test_plan import CARD, GIB, LEVELS
from tests.golden import assert_golden

UNET = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
}
TEXT = {"hidden_size": 768, "tokens": 77, "num_parameters": 123_060_480}
DIFFUSION = CARD.model_copy(
    update={
        "family": "stable-diffusion",
        "image_size": 512,
        "num_classes": 0,
        "num_parameters": 859_520_964,
        "anatomy": {"unet": unet_anatomy(UNET), "autoencoder": LEVELS, "text_encoder": TEXT},
    }
)
RATES = {"training": 0.3, "evaluating": 0.05, "sampling_retention": 0.02, "encoding": 0.01, "loading_model": 4.0}
ON_CARD = {"device": Device("GPU of 24 GiB", 24 * GIB), "num_images": 5000, "num_classes": 100}
ON_CPU = {"device": Device("cpu", 64 * GIB), "num_images": 300, "num_classes": 3}

Asked = dict[str, Any]
CASES: dict[str, tuple[BaseModelCard, Asked, Asked, Asked]] = {
    "dit_full": (CARD, ON_CARD, {}, {}),
    "dit_full_on_a_cpu": (CARD, ON_CPU, {"batch_size": 4}, {"resources": {"micro_batch": 1}}),
    "dit_nothing_known": (CARD, {}, {"batch_size": 8}, {}),
    "dit_by_parameters": (CARD.model_copy(update={"anatomy": {}}), ON_CARD, {"batch_size": 8}, {}),
    "dit_lora": (CARD, ON_CARD, {"adapter": {"type": "lora", "rank": 8}}, {}),
    "dit_difffit_in_parts": (
        CARD,
        ON_CARD | {"retention": "cached", "extractor_parameters": 21_785_568},
        {"adapter": {"type": "difffit"}, "batch_size": 64},
        {"resources": {"micro_batch": 8, "activation_checkpointing": "on", "precision": "fp32"}},
    ),
    "dit_eight_bits_on_two_gpus": (
        CARD,
        ON_CARD | {"retention": "made", "rates": Rates(2, RATES)},
        {"batch_size": 16, "retention_set": {"num_images": 500}},
        {"resources": {"optimizer_state": "8bit", "average_on": "host", "gpus": 2}},
    ),
    "dit_in_epochs": (
        CARD,
        ON_CARD | {"rates": Rates(1, RATES, of_probes=True)},
        {"epochs": 3, "batch_size": 32},
        {"evaluation": {"num_images": 2000, "every_steps": 100}, "checkpoints": {"keep_last": 2}},
    ),
    "controlnet": (DIFFUSION, ON_CARD, {}, {"control": {"condition": "edge"}}),
    "controlnet_lora_on_a_cpu": (
        DIFFUSION,
        ON_CPU,
        {"adapter": {"type": "lora"}, "batch_size": 2, "max_steps": 30},
        {"control": {"condition": "edge"}, "resources": {"micro_batch": 1, "activation_checkpointing": "on"}},
    ),
    "controlnet_with_retention": (
        DIFFUSION,
        ON_CARD | {"rates": Rates(3, RATES), "retention": "being_made"},
        {"batch_size": 8, "retention_set": {"num_images": 100}, "ema_decay": 0.99},
        {"control": {"condition": "edge"}, "evaluation": {"guidance_scale": 1.0, "num_images": 64}},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_plan_is_as_it_was(name: str) -> None:
    card, known, hyperparameters, more = CASES[name]
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": hyperparameters}}
    given = TransferConfig.model_validate({"model": card.id, "method": method, **more})
    resolved = resolve(given, card, num_threads=1)
    job = Job(
        resolved,
        lambda config: rules_of(card).network_size(config, card, None),
        card.image_size,
        Circumstances(**known),
    )
    plan = plan_of(fitted(job), given, card, "d" * 64).model_dump(mode="json")
    assert_golden(f"plan_{name}.json", plan)
    assert_golden(f"plan_{name}.txt", plan_card(plan), rounded=False)
