"""The recipe of docs/extending.md, brought by another distribution."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from difftune_core.config import recipes
from difftune_core.config.card import BaseModelCard
from difftune_core.config.methods.diff_tuning import DiffTuning
from difftune_core.config.recipe_rules import WHERE, idle
from difftune_core.config.resolution import resolve
from difftune_core.config.stored import read_stored
from difftune_core.config.transfer import TransferConfig
from difftune_core.diffusion.process import DDPM
from difftune_core.families.batch import losses_of, make_batch
from difftune_core.families.labelled import LabelledData
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT
from difftune_core.objectives import draws
from tests.core.conftest import toy_config
from tests.core.distributions import documented
from tests.core.objectives.test_runs import finish
from tests.core.runs import toy_folders

CARD = BaseModelCard(id="toy", family="dit", image_size=32, feature_extractor="none", digest="toy")


def given(**own: object) -> TransferConfig:
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": {"recipe": "cosine", **own}}}
    return TransferConfig.model_validate({"model": "toy", "method": method})


def hyperparameters(config: TransferConfig) -> dict[str, Any]:
    return resolve(config, CARD, num_threads=1).method.hyperparameters.model_dump()


def forget() -> None:
    recipes.all_recipes.cache_clear()
    draws._loaded.cache_clear()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    forget()
    with documented("A recipe", "my_recipes", tmp_path, monkeypatch) as site:
        yield site
    forget()


@pytest.mark.usefixtures("installed")
def test_slots_are_drawn_as_it_says(ddpm: DDPM) -> None:
    method = resolve(given(batch_size=65_536), CARD, num_threads=1).method
    found = draws.draw(method, seed=3, step=0, process=ddpm)
    assert torch.equal(found.weight, torch.ones(65_536))
    for low in range(0, 1000, 100):
        chosen = (found.t >= low) & (found.t < low + 100)
        wanted = ((1 - torch.cos(torch.pi * (torch.arange(low, low + 100) + 1) / 1000)) / 2).mean()
        assert abs(float(found.is_target[chosen].double().mean()) - float(wanted)) < 0.03
    same = resolve(TransferConfig.model_validate({"model": "toy"}), CARD, num_threads=1).method
    assert isinstance(same, DiffTuning)
    other = same.model_copy(update={"diff_tuning": method.diff_tuning})  # type: ignore[union-attr]  # one of Diff-Tuning
    assert torch.equal(draws.draw(other, seed=3, step=0, process=ddpm).t, found.t), "paired by seed"


@pytest.mark.usefixtures("installed")
def test_a_job_of_it_is_tuned_and_reported(toy_model: DiT, tmp_path: Path) -> None:
    report, _ = finish(toy_folders(toy_model, tmp_path), recipe="cosine")
    assert report["job"]["method"]["diff_tuning"]["hyperparameters"]["recipe"] == "cosine"
    assert report["retention_set"]["num_images"] > 0


@pytest.mark.usefixtures("installed")
def test_schema_rules_and_pages_know_it() -> None:
    definitions = TransferConfig.model_json_schema()["$defs"]
    named = definitions["DiffTuningHyperparameters"]["properties"]["recipe"]["enum"]
    assert named == ["algorithm1", "released", "distillation", "dogfit", "weighted", "cosine"]
    with pytest.raises(TaskError, match="psi 'snr' is of others"):
        resolve(given(psi="snr"), CARD, num_threads=1)
    with pytest.raises(TaskError, match="retention_weight belongs to the recipe 'released', not to 'cosine'"):
        resolve(given(retention_weight=0.5), CARD, num_threads=1)
    unused = idle(given().method.hyperparameters.model_dump(), controlled=False)
    of_others = {"retention_share", "retention_weight", "distillation_weight", "min_learning_rate"}
    assert unused == {"tau", "components", "recipe_settings"} | of_others


@pytest.mark.usefixtures("installed")
def test_its_settings_are_completed_shown_and_refused_by_their_names() -> None:
    definitions = TransferConfig.model_json_schema()["$defs"]
    *_, known, null = definitions["DiffTuningHyperparameters"]["properties"]["recipe_settings"]["anyOf"]
    assert (known["title"], known["properties"]["bound"]["exclusiveMinimum"]) == ("CosineSettings", 0)
    assert null == {"type": "null"}
    assert hyperparameters(given())["recipe_settings"] == {"bound": 1.0}
    assert hyperparameters(given(recipe_settings={"bound": 0.5}))["recipe_settings"] == {"bound": 0.5}
    assert "recipe_settings" not in idle(hyperparameters(given()), controlled=False)
    for settings, field in (({"bound": 0.0}, ".bound"), ({"other": 1}, ".other")):
        with pytest.raises(TaskError) as refused:
            resolve(given(recipe_settings=settings), CARD, num_threads=1)
        assert (refused.value.code, refused.value.param) == ("invalid_option", f"{WHERE}.recipe_settings{field}")
    with pytest.raises(TaskError, match="the recipe 'released' has no settings of its own"):
        resolve(given(recipe="released", recipe_settings={"bound": 0.5}), CARD, num_threads=1)


@pytest.mark.usefixtures("installed")
def test_slots_learn_by_its_loss(toy_model: DiT, training_data: LabelledData) -> None:
    def losses(**own: object) -> Tensor:
        config = toy_config("diff_tuning", **own)
        batch = make_batch(config, training_data, 0)
        return losses_of(toy_model, batch, config.method, training_data)

    far, near = (losses(recipe="cosine", recipe_settings={"bound": bound}) for bound in (100.0, 0.1))
    squared = make_batch(toy_config("diff_tuning", recipe="cosine", recipe_settings={"bound": 1.0}), training_data, 0)
    plain = losses_of(toy_model, squared, toy_config().method, training_data)
    assert torch.equal(far, plain), "within the bound it is the denoising loss"
    assert bool((near < plain).all())


def test_without_it_a_config_is_refused_and_a_stored_one_can_be_read(ddpm: DDPM) -> None:
    with pytest.raises(ValidationError, match="'algorithm1', 'released', 'distillation', 'dogfit' or 'weighted'"):
        given()
    stored = resolve(TransferConfig(model="toy"), CARD, num_threads=1).model_dump(mode="json")
    stored["method"]["diff_tuning"]["hyperparameters"]["recipe"] = "cosine"
    method = read_stored(TransferConfig, stored).method
    assert not method.needs_teacher
    assert "tau" not in idle(method.hyperparameters.model_dump(), controlled=False), "shown as it stands"
    for use in (lambda: draws.check_is_here(method), lambda: draws.draw(method, seed=0, step=0, process=ddpm)):
        with pytest.raises(TaskError, match="no recipe 'cosine' here: known are algorithm1, ") as refused:
            use()
        assert refused.value.code == "recipe_unknown"


def test_one_whose_code_does_not_load_is_named(installed: Path) -> None:
    (installed / "my_recipes" / "drawn.py").write_text("import nowhere_at_all\n")
    method = given().method
    with pytest.raises(TaskError, match="'cosine' cannot be loaded: No module named 'nowhere_at_all'") as refused:
        draws.check_is_here(method)
    assert refused.value.code == "recipe_unloadable"
