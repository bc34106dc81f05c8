"""Configs that an older version accepted and this one would refuse: they run as they were stored."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from difftune_core.__main__ import main
from difftune_core.checkpoint.manifest import newest_whole
from difftune_core.config.analysis import ChainOfForgetting
from difftune_core.config.card import read_card
from difftune_core.config.methods.diff_tuning import DiffTuning
from difftune_core.config.resolution import resolve, resolve_analysis
from difftune_core.config.retention import RetentionSetRequest
from difftune_core.config.stored import read_stored
from difftune_core.config.transfer import TransferConfig, config_digest
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT
from tests.core.runs import ToyFolders, toy_folders

STORED = Path(__file__).with_name("stored_0_2_0.json")
DIGEST_OF_0_3_0 = "e2451327ab0bd9dff84d2e74ec237423a856b1deb08679dfb5eba473a1abbd4a"


@pytest.fixture
def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    return found


@pytest.fixture
def toy(toy_model: DiT, tmp_path: Path) -> ToyFolders:
    return toy_folders(toy_model, tmp_path)


def test_what_was_stored_is_what_is_read(stored: dict[str, Any]) -> None:
    read = read_stored(TransferConfig, stored)
    assert isinstance(read.method, DiffTuning)
    assert (read.method.hyperparameters.psi, read.method.hyperparameters.tau) == ("snr", 2.0)
    assert read.evaluation.guided_channels is None, "the preset has three today; the job was accepted without"
    assert read.evaluation.class_distribution == "equal", "as it was before there was a choice"
    assert read_stored(TransferConfig, read.model_dump(mode="json")) == read
    assert TransferConfig(model="toy").evaluation.class_distribution == "as_validation"


def test_a_field_that_is_no_more_is_left_out_wherever_it_was(stored: dict[str, Any]) -> None:
    older = copy.deepcopy(stored)
    given = older["method"]["diff_tuning"]["hyperparameters"]
    for place in (older, older["evaluation"], given, given["adapter"], given["retention_set"]):
        place["gone"] = 1
    assert read_stored(TransferConfig, older) == read_stored(TransferConfig, stored)
    with pytest.raises(ValidationError, match="gone"):
        TransferConfig.model_validate(older)


def test_a_config_of_a_newer_schema_is_not_guessed_at(stored: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match="upgrade this worker") as caught:
        read_stored(TransferConfig, {**stored, "schema_version": 2})
    assert caught.value.code == "config_of_newer_version"


def test_a_checkpoint_of_an_older_version_is_still_this_jobs(stored: dict[str, Any]) -> None:
    read = read_stored(TransferConfig, stored)
    assert config_digest(read) == DIGEST_OF_0_3_0
    other = read.evaluation.model_copy(update={"class_distribution": "as_validation"})
    assert config_digest(read.model_copy(update={"evaluation": other})) != DIGEST_OF_0_3_0


def test_a_job_trains_as_it_was_stored(
    toy: ToyFolders, stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TaskError):
        resolve(TransferConfig.model_validate(stored), read_card(toy.models / "toy"), num_threads=1)
    out, beside = toy.root / "out", ["--data", toy.data]
    assert run(monkeypatch, "train", stored, toy, *beside) == 1, "by hand it is judged"
    assert "invalid_option" in capsys.readouterr().err
    assert run(monkeypatch, "train", {**stored, "gone": 1}, toy, *beside, "--resolved") == 0
    found = newest_whole(out / "checkpoints")
    assert found is not None
    assert found[1].step == 2
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["job"] == read_stored(TransferConfig, stored).model_dump(mode="json")
    assert report["recipe"]["class_distribution"] == "equal shares"


def test_a_retention_set_is_made_as_it_was_stored(
    toy: ToyFolders, stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = stored["method"]["diff_tuning"]["hyperparameters"]["retention_set"]
    request = {"model": "toy", "num_threads": 1, **settings, "prompt": "a model of classes takes none", "gone": 1}
    assert run(monkeypatch, "retain", request, toy) == 1
    assert run(monkeypatch, "retain", request, toy, "--resolved") == 0
    assert (toy.root / "out" / "retention.safetensors").exists()
    assert read_stored(RetentionSetRequest, request).num_images == 8


def test_an_analysis_is_made_as_it_was_stored(
    toy: ToyFolders, stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, "train", stored, toy, "--data", toy.data, "--resolved") == 0
    found = newest_whole(toy.root / "out" / "checkpoints")
    assert found is not None
    chain = {"model": "toy", "fractions": [0.0, 0.5], "seed": 0, "evaluation": stored["evaluation"], "num_threads": 1}
    with pytest.raises(TaskError, match="not measured"):
        resolve_analysis(ChainOfForgetting.model_validate(chain), read_card(toy.models / "toy"))
    given = ["--data", toy.data, "--checkpoint", f"tuned={found[0]}"]
    assert run(monkeypatch, "analyse", chain, toy, *given) == 1
    assert run(monkeypatch, "analyse", {**chain, "gone": 1}, toy, *given, "--resolved") == 0
    result = json.loads((toy.root / "out" / "chain.json").read_text(encoding="utf-8"))
    assert result["recipe"]["class_distribution"] == "equal shares"


def test_a_jobs_config_as_it_is_shown_may_be_submitted_again(toy: ToyFolders) -> None:
    """Though it states fields of other recipes: at the values that would be filled in they are no wish."""
    card = read_card(toy.models / "toy")
    defaults = card.defaults.model_copy(update={"training": {"retention_share": 0.3, "tau": 0.5}})
    own = card.model_copy(update={"defaults": defaults})
    given = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": {"psi": "snr"}}}
    shown = resolve(TransferConfig.model_validate({"model": "toy", "method": given}), own, num_threads=1)
    assert shown.method.hyperparameters.retention_share == 0.3
    assert resolve(TransferConfig.model_validate(shown.model_dump(mode="json")), own, num_threads=1) == shown
    for field, value in (("retention_share", 0.2), ("tau", 1.0)):
        changed = {**given["diff_tuning"]["hyperparameters"], field: value}
        asked = {"model": "toy", "method": {"type": "diff_tuning", "diff_tuning": {"hyperparameters": changed}}}
        with pytest.raises(TaskError, match=field):
            resolve(TransferConfig.model_validate(asked), own, num_threads=1)


def run(monkeypatch: pytest.MonkeyPatch, command: str, config: dict[str, Any], toy: ToyFolders, *given: Any) -> int:
    """The command in this process; its exit status."""
    path = toy.root / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    places = ["--models", toy.models, "--cache", toy.root / "cache", "--out", toy.root / "out"]
    monkeypatch.setattr(sys, "argv", ["difftune_core", command, str(path), *map(str, [*given, *places])])
    return main()
