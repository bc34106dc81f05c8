"""Plans of whole jobs."""

from __future__ import annotations

from typing import Any

import pytest

from difftune_core.config.card import BaseModelCard, read_card
from difftune_core.config.families import rules_of
from difftune_core.config.plan.circumstances import Circumstances, Device, Rates
from difftune_core.config.plan.fitting import Job, fitted, settings_that_fit
from difftune_core.config.plan.plan import Plan, plan_of
from difftune_core.config.plan.seconds import rates_of
from difftune_core.config.resolution import resolve
from difftune_core.config.run import ResourcesConfig
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.controlnet.anatomy import unet_anatomy
from difftune_core.files import folder_digest
from tests.core.runs import BUNDLED

GIB = 1 << 30
XL = {"input_size": 32, "patch_size": 2, "in_channels": 4, "hidden_size": 1152, "depth": 28, "num_heads": 16}
LEVELS = {"block_out_channels": [128, 256, 512, 512], "num_parameters": 83_653_863}
CARD = BaseModelCard(
    id="xl",
    family="dit",
    image_size=256,
    num_classes=1000,
    num_parameters=675_129_632,
    feature_extractor="inception",
    digest="d",
    anatomy={**XL, "num_classes": 1000, "autoencoder": LEVELS},
)
H200 = Device("H200", 139 * GIB)


def job_of(known: Circumstances, card: BaseModelCard = CARD, **asked: Any) -> tuple[Job, TransferConfig]:
    resources = asked.pop("resources", {})
    evaluation = asked.pop("evaluation", {})
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": asked}}
    given = TransferConfig.model_validate(
        {"model": card.id, "method": method, "resources": resources, "evaluation": evaluation}
    )
    resolved = resolve(given, card, num_threads=1)
    return Job(resolved, lambda config: rules_of(card).network_size(config, card, None), card.image_size, known), given


def plan(known: Circumstances, card: BaseModelCard = CARD, **asked: Any) -> Plan:
    job, given = job_of(known, card, **asked)
    return plan_of(job, given, card, "digest")


def test_a_plan_on_a_gpu_names_every_part() -> None:
    found = plan(Circumstances(device=H200, num_images=1000), batch_size=32)
    assert found.device_memory is not None
    assert set(found.device_memory.parts) == {
        "reserved",
        "weights",
        "gradients",
        "optimizer",
        "average",
        "autocast",
        "activations",
        "latents",
        "base_model",
        "sampling",
        "autoencoder",
        "encoding",
    }
    assert found.device_memory.parts["weights"] == 4 * 675_129_632
    assert found.device_memory.parts["optimizer"] == 8 * (675_129_632 - 256 * 1152)
    assert (found.confidence, found.fits) == ("anatomy", True)
    assert found.storage.checkpoint_bytes == pytest.approx(16 * 675_129_632, rel=0.001)


def test_without_a_gpu_all_is_the_hosts() -> None:
    found = plan(Circumstances(device=Device("cpu", 64 * GIB)), batch_size=4, resources={"micro_batch": 1})
    assert found.device_memory is None
    assert "activations" in found.host_memory.parts
    assert found.host_memory.peak_bytes == max(found.host_memory.phases.values())


def test_an_adapter_needs_what_is_trained_only() -> None:
    known = Circumstances(device=H200)
    full, lora = (plan(known, batch_size=1, adapter={"type": kind}) for kind in ("full", "lora"))
    assert lora.trained_parameters < full.trained_parameters / 100
    assert lora.device_memory is not None
    assert full.device_memory is not None
    assert lora.device_memory.phases["training"] < full.device_memory.phases["training"] / 2
    assert "base_model" not in lora.device_memory.parts


def test_what_auto_becomes_is_told_with_its_reason() -> None:
    small = Circumstances(device=Device("a", 40 * GIB))
    job, given = job_of(small, batch_size=256, evaluation={"num_images": 16})
    assert job.fits() is False
    chosen = fitted(job)
    assert chosen.fits() is True
    told = {choice.field: choice for choice in plan_of(chosen, given, CARD, None).choices}
    assert told["resources.micro_batch"].value == chosen.config.resources.micro_batch
    assert told["resources.micro_batch"].why == "With all 256 images at once it would not fit."
    assert told["resources.precision"].value == "bf16"
    assert told["method.diff_tuning.hyperparameters.ema_decay"].why.startswith("The average's time constant")
    assert told["samples.num_images"].value == chosen.config.samples.num_images


def test_what_would_fit_is_found_in_order() -> None:
    asked = {"batch_size": 32, "resources": {"micro_batch": 32}, "evaluation": {"num_images": 4}}
    asked["retention_set"] = {"num_images": 4}
    job, _ = job_of(Circumstances(device=Device("a", 24 * GIB)), **asked)
    lora = {"lora": TransferConfig.model_validate({"model": "a"}).method.hyperparameters.adapter}
    found = settings_that_fit(job, {})
    assert found
    assert {field for change in found for field in change} <= {
        f"resources.{name}" for name in ResourcesConfig.model_fields
    }
    assert found[1].get("resources.micro_batch", 32) >= found[0]["resources.micro_batch"]
    tiny, _ = job_of(Circumstances(device=Device("a", GIB)), **asked)
    assert settings_that_fit(tiny, lora) == []


def test_a_controlnet_is_planned_whole_and_told_what_would_fit() -> None:
    """The anatomy is the one beside Stable Diffusion 1.5, at 512 pixels."""
    unet = {
        "sample_size": 64,
        "cross_attention_dim": 768,
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    }
    text = {"hidden_size": 768, "tokens": 77, "num_parameters": 123_060_480}
    anatomy = {"unet": unet_anatomy(unet), "autoencoder": LEVELS, "text_encoder": text}
    fields = {"family": "stable-diffusion", "image_size": 512, "num_classes": 0, "num_parameters": 859_520_964}
    card = CARD.model_copy(update={**fields, "anatomy": anatomy})
    given = TransferConfig.model_validate({"model": card.id, "control": {"condition": "edge"}})
    resolved = resolve(given, card, num_threads=1)

    def job_on(memory: int) -> Job:
        known = Circumstances(device=Device("a", memory))
        return Job(resolved, lambda config: rules_of(card).network_size(config, card, None), 512, known)

    whole = plan_of(fitted(job_on(24 * GIB)), given, card, None)
    assert (whole.confidence, whole.fits, whole.parameters) == ("anatomy", True, 361_279_120)
    assert whole.device_memory is not None
    assert "base_model" not in whole.device_memory.parts, "the frozen UNet is the base model"
    assert {"text_encoder", "activations"} <= whole.device_memory.parts.keys()
    tight = fitted(job_on(14 * GIB))
    assert tight.fits() is True
    assert tight.config.resources.micro_batch in {1, 2, 4}
    assert job_on(8 * GIB).fits(tolerance=0.15) is False


def test_without_an_anatomy_a_plan_says_what_it_lacks() -> None:
    found = plan(Circumstances(device=H200), CARD.model_copy(update={"anatomy": {}}))
    assert (found.confidence, found.fits) == ("parameters", None)
    assert "no anatomy" in found.notes[0]
    assert found.device_memory is not None
    assert found.device_memory.parts["gradients"] == 4 * 675_129_632


def test_seconds_are_those_of_past_runs_and_else_unknown() -> None:
    unknown = plan(Circumstances())
    assert unknown.seconds["training"] is None
    job, _ = job_of(Circumstances(num_images=100), batch_size=10, max_steps=100)
    rates = rates_of({"training": 50.0, "exporting": 3.0, "evaluating": 0.0}, job.config, 100)
    known = Circumstances(num_images=100, rates=Rates(1, rates))
    found = plan(known, batch_size=20, max_steps=200)
    assert (found.seconds["training"], found.seconds["exporting"]) == (200.0, 3.0)
    assert found.seconds["evaluating"] is None


@pytest.mark.parametrize(("state", "cost"), [("to_be_made", 10 * 7), ("cached", 0)])
def test_a_retention_set_costs_only_where_it_has_to_be_made(state: Any, cost: int) -> None:
    known = Circumstances(retention=state)
    found = plan(known, retention_set={"num_images": 10, "num_inference_steps": 7})
    assert found.retention_set.image_steps == cost
    assert ("building_retention_set" in found.host_memory.phases) == bool(cost)


@pytest.mark.parametrize("name", ["tiny-dit", "tiny-sd"])
def test_an_anatomy_is_no_part_of_a_bundled_models_digest(name: str) -> None:
    card = read_card(BUNDLED / name)
    assert card.anatomy["autoencoder"]["num_parameters"] > 0
    assert folder_digest(BUNDLED / name) == card.digest
