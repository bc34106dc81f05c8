from __future__ import annotations

import math
import subprocess
import sys
from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError

from difftune_core.config.card import BaseModelCard
from difftune_core.config.methods.diff_tuning import DiffTuning
from difftune_core.config.named import STORED, OneOf
from difftune_core.config.resolution import resolve
from difftune_core.config.retention import RetentionSetConfig, RetentionSetRequest
from difftune_core.config.transfer import TransferConfig
from difftune_core.hooks import TaskError

CARD = BaseModelCard(
    id="toy",
    family="dit",
    image_size=32,
    feature_extractor="none",
    digest="d",
    defaults={
        "training": {"max_steps": 50, "learning_rate": 3e-4, "horizontal_flip": False},
        "retention_set": {"num_images": 9},
        "evaluation": {"num_images": 77},
    },
)


def config(**hyperparameters: object) -> TransferConfig:
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": hyperparameters}}
    return TransferConfig.model_validate({"model": "toy", "method": method})


def test_left_out_fields_come_from_the_card() -> None:
    resolved = resolve(config(learning_rate=1e-5), CARD, num_threads=2)
    given = resolved.method.hyperparameters
    assert (given.max_steps, given.learning_rate, given.horizontal_flip) == (50, 1e-5, False)
    assert resolved.evaluation.num_images == 77
    assert resolved.num_threads == 2
    assert isinstance(resolved.method, DiffTuning)
    assert resolved.method.hyperparameters.retention_set != "auto"
    assert resolved.method.hyperparameters.retention_set.num_images == 9


def test_the_average_follows_the_length_of_the_run() -> None:
    resolved = resolve(config(max_steps=24_000), CARD, num_threads=1)
    assert resolved.method.hyperparameters.ema_decay == pytest.approx(0.9999, abs=1e-6)
    assert resolve(config(ema_decay=0.5), CARD, num_threads=1).method.hyperparameters.ema_decay == 0.5


def test_resolving_twice_changes_nothing() -> None:
    once = resolve(config(), CARD, num_threads=1)
    assert resolve(once, CARD, num_threads=8) == once
    assert TransferConfig.model_validate_json(once.model_dump_json()) == once


@pytest.mark.parametrize(("process", "sampler"), [("ddpm", "ddim"), ("flow", "euler"), ("edm", "euler")])
def test_the_default_sampler_is_the_processes(process: str, sampler: str) -> None:
    resolved = resolve(config(), CARD.model_copy(update={"process": process}), num_threads=1)
    assert isinstance(resolved.method, DiffTuning)
    assert isinstance(resolved.method.hyperparameters.retention_set, RetentionSetConfig)
    assert resolved.method.hyperparameters.retention_set.sampler == resolved.evaluation.sampler == sampler


def test_what_does_not_fit_the_process_is_refused_by_its_field() -> None:
    flow = CARD.model_copy(update={"process": "flow"})
    evaluated = TransferConfig.model_validate({"model": "toy", "evaluation": {"sampler": "ddpm"}})
    cases = {
        "method.diff_tuning.hyperparameters.recipe": config(recipe="released"),
        "method.diff_tuning.hyperparameters.retention_set.sampler": config(retention_set={"sampler": "ddim"}),
        "evaluation.sampler": evaluated,
    }
    for param, given in cases.items():
        assert resolve(given, CARD, num_threads=1)
        with pytest.raises(TaskError, match="flow") as caught:
            resolve(given, flow, num_threads=1)
        assert caught.value.param == param


@pytest.mark.parametrize("components", ["reconsolidation", "retention"])
def test_the_released_recipe_has_no_ablations(components: str) -> None:
    """It would be trained whole, and its report would call it the ablation."""
    with pytest.raises(TaskError, match="ablation of Algorithm 1") as caught:
        resolve(config(recipe="released", components=components), CARD, num_threads=1)
    assert caught.value.param == "method.diff_tuning.hyperparameters.components"


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("psi", {"recipe": "released", "psi": "snr"}),
        ("tau", {"psi": "snr", "tau": 0.0}),
        ("retention_weight", {"retention_weight": 5.0}),
        ("retention_share", {"recipe": "distillation", "retention_share": 0.5}),
        ("distillation_weight", {"recipe": "released", "distillation_weight": 1.0}),
        ("retention_set", {"recipe": "distillation", "retention_set": f"rset_{'0' * 26}"}),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused(field: str, fields: dict[str, object]) -> None:
    with pytest.raises(TaskError) as caught:
        resolve(config(**fields), CARD, num_threads=1)
    assert (caught.value.code, caught.value.param) == ("invalid_option", f"method.diff_tuning.hyperparameters.{field}")


@pytest.mark.parametrize("recipe", ["algorithm1", "released", "distillation"])
def test_what_is_resolved_is_taken_again(recipe: str) -> None:
    """A trainer resolves the stored config once more."""
    once = resolve(config(recipe=recipe), CARD, num_threads=1)
    assert resolve(once, CARD, num_threads=1) == once


def test_a_batch_without_a_retention_image_is_refused() -> None:
    """A share of 0.2 of 4 images rounds down to none: it would be trained on the target alone."""
    assert resolve(config(recipe="released", batch_size=5), CARD, num_threads=1)
    with pytest.raises(TaskError) as caught:
        resolve(config(recipe="released", batch_size=4), CARD, num_threads=1)
    assert caught.value.code == "no_retention"
    assert caught.value.param == "method.diff_tuning.hyperparameters.retention_share"


def test_an_explicit_null_is_a_wish_not_a_gap() -> None:
    resolved = resolve(config(checkpoint_every_steps=None, max_steps=10), CARD, num_threads=1)
    assert resolved.method.hyperparameters.checkpoint_every_steps == math.ceil(10 / 4)


@pytest.mark.parametrize(
    ("field", "value"),
    [("tau", -1), ("max_steps", 0), ("batch_size", 0), ("learning_rate", 0), ("ema_decay", 1), ("nonsense", 1)],
)
def test_bad_values_name_their_field(field: str, value: float) -> None:
    with pytest.raises(ValidationError) as caught:
        config(**{field: value})
    assert caught.value.errors()[0]["loc"][-1] == field


def test_an_adapter_is_chosen_by_its_type() -> None:
    resolved = resolve(config(adapter={"type": "lora", "rank": 4}), CARD, num_threads=1)
    chosen = resolved.method.hyperparameters.adapter
    assert (chosen.type, chosen.rank, chosen.targets) == ("lora", 4, ("attn.qkv", "attn.proj"))
    assert resolve(config(), CARD, num_threads=1).method.hyperparameters.adapter.type == "full"
    assert resolve(resolved, CARD, num_threads=1) == resolved
    with pytest.raises(ValidationError, match="rank"):
        config(adapter={"type": "lora", "rank": 0})
    with pytest.raises(ValidationError, match="adapter"):
        config(adapter={"type": "prefix"})


@pytest.mark.parametrize("target", ["attn.qkv", "blocks.11.mlp.fc2", "qkv", "final_layer.linear", "linear"])
def test_a_target_may_be_the_end_of_any_linear_layer(target: str) -> None:
    assert resolve(config(adapter={"type": "lora", "targets": [target]}), CARD, num_threads=1)


@pytest.mark.parametrize("target", ["nowhere", "kv", "blocks.qkv", "attn", "blocks.1", "xblocks.0.attn.qkv"])
def test_a_target_that_is_no_layer_is_refused_at_submission(target: str) -> None:
    with pytest.raises(TaskError, match=f"is named {target}; there are adaLN_modulation.1, attn.proj") as caught:
        resolve(config(adapter={"type": "lora", "targets": ["attn.qkv", target]}), CARD, num_threads=1)
    assert caught.value.code == "adapter_matches_nothing"
    assert caught.value.param == "method.diff_tuning.hyperparameters.adapter.targets"


def test_importing_the_config_loads_no_torch() -> None:
    code = "import difftune_core.config.transfer, difftune_core.hooks, sys; print('torch' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert loaded.strip() == "False"


def test_a_request_for_a_retention_set_computes_in_one_to_256_threads() -> None:
    assert RetentionSetRequest(model="m").num_threads == 1
    assert [RetentionSetRequest(model="m", num_threads=n).num_threads for n in (1, 256)] == [1, 256]
    for count in (0, 257):
        with pytest.raises(ValidationError, match="num_threads"):
            RetentionSetRequest(model="m", num_threads=count)


def test_a_name_out_of_a_table_is_listed_in_the_schema_and_refused_where_it_is_not_in_it() -> None:
    adapter = TypeAdapter(Annotated[str, OneOf(lambda: ("a", "b", "c"))])
    assert adapter.json_schema() == {"type": "string", "enum": ["a", "b", "c"]}
    assert adapter.validate_python("b") == "b"
    with pytest.raises(ValidationError, match="'a', 'b' or 'c'"):
        adapter.validate_python("d")
    assert adapter.validate_python("d", context=STORED) == "d"
