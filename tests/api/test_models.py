from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.base_models import service
from difftune_core.config.methods.diff_tuning import DiffTuning
from tests.api.conftest import CARD


def test_models_are_openais_with_their_card(client: TestClient) -> None:
    listed = {model["id"]: model for model in client.get("/v1/models").json()["data"]}
    model = client.get("/v1/models/tiny-dit").json()
    assert listed["tiny-dit"] == model
    assert (model["object"], model["created"], model["owned_by"]) == ("model", 1_767_225_600, "difftune")
    assert (model["family"], model["image_size"], model["methods"]) == ("dit", 32, ["diff_tuning", "supervised"])
    assert model["defaults"]["training"]["max_steps"] == 300


def test_unknown_models_and_methods(client: TestClient, assert_problem: Callable[..., Any]) -> None:
    assert_problem(client.get("/v1/models/gpt"), 404, "model_not_found")
    answer = client.get("/v1/models/tiny-dit/methods/dpo/schema")
    assert "diff_tuning" in assert_problem(answer, 404, "method_not_found")["detail"]


def test_the_schema_has_the_models_defaults_and_accepts_what_the_config_accepts(client: TestClient) -> None:
    answer = client.get("/v1/models/tiny-dit/methods/diff_tuning/schema")
    assert answer.headers["content-type"] == "application/schema+json"
    schema = answer.json()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    fields = schema["$defs"]["DiffTuningHyperparameters"]["properties"]
    assert (fields["max_steps"]["default"], fields["tau"]["default"]) == (300, 1.0)
    assert "unknown_to_this_release" not in fields
    assert schema["$defs"]["RetentionSetConfig"]["properties"]["num_images"]["default"] == 64
    assert fields.keys() == DiffTuning().hyperparameters.model_dump().keys()


def test_a_card_that_cannot_be_read_hides_no_others(client: TestClient, data_dir: Path, logged: io.StringIO) -> None:
    folder = data_dir / "models" / "broken"
    folder.mkdir()
    (folder / "card.json").write_text('{"family": "dit"}', encoding="utf-8")
    ids = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert "tiny-dit" in ids
    assert "broken" not in ids
    warned = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert "broken" in [line.get("model") for line in warned]


def test_a_model_that_goes_while_all_are_listed_hides_no_others(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = service.list_cards
    monkeypatch.setattr(service, "list_cards", lambda *given: {"gone": tmp_path / "gone", **listed(*given)})
    assert "tiny-dit" in {model["id"] for model in client.get("/v1/models").json()["data"]}


def test_controlnets_and_annotators_are_listed_by_their_kind(
    client: TestClient, data_dir: Path, assert_problem: Callable[..., Any]
) -> None:
    common = {"licence": "MIT", "num_parameters": 7, "digest": "0" * 64}
    for card in (
        {"id": "edges", "kind": "controlnet", "conditions": ["edge"], "anatomy": {"in_channels": 4}},
        {"id": "dpt", "kind": "annotator", "conditions": ["depth", "normal"]},
        {"id": "inception", "kind": "inception"},
    ):
        folder = data_dir / "models" / str(card["id"])
        folder.mkdir()
        (folder / "card.json").write_text(json.dumps(common | card), encoding="utf-8")
    for kind, model_id, conditions in (("controlnet", "edges", ["edge"]), ("annotator", "dpt", ["depth", "normal"])):
        found = client.get("/v1/models", params={"kind": kind}).json()["data"]
        (listed,) = [model for model in found if not model["id"].startswith("tiny-")]
        assert ("tiny-depth" in [model["id"] for model in found]) == (kind == "annotator"), "bundled"
        assert (listed["id"], listed["kind"], listed["conditions"]) == (model_id, kind, conditions)
        assert (listed["image_size"], listed["methods"]) == (None, [])
        assert client.get(f"/v1/models/{model_id}").json() == listed
    tunable = client.get("/v1/models").json()["data"]
    assert {model["kind"] for model in tunable} == {"base_model"}
    assert_problem(client.get("/v1/models", params={"kind": "vae"}), 422, "invalid_value", param="kind")
    assert_problem(client.get("/v1/models/inception"), 404, "model_not_found")


@pytest.mark.parametrize("content", [b'\xff\xfe"family"', b'{"family": "dit", "id": "broken"', None])
def test_a_file_that_is_no_card_hides_no_others(
    client: TestClient, data_dir: Path, ready: str, content: bytes | None
) -> None:
    card = data_dir / "models" / "broken" / "card.json"
    card.parent.mkdir()
    card.mkdir() if content is None else card.write_bytes(content)
    assert [model["id"] for model in client.get("/v1/models").json()["data"] if model["id"] == "broken"] == []
    assert client.get("/v1/models/tiny-dit").status_code == 200
    assert client.get("/v1/models", params={"kind": "annotator"}).status_code == 200
    answer = client.post("/v1/fine_tuning/jobs", json={"model": "tiny-dit", "training_file": ready})
    assert answer.status_code == 200, answer.text


def test_a_copied_folder_is_a_model_of_its_own_name(client: TestClient, data_dir: Path) -> None:
    _add_card(data_dir, "copy", CARD)
    assert "copy" in [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert client.post("/v1/retention_sets", json={"model": "copy"}).json()["model"] == "copy"


@pytest.mark.parametrize(
    ("defaults", "field"),
    [
        ({"training": {"max_steps": "many"}}, "max_steps"),
        ({"training": {"max_steps": 0}}, "max_steps"),
        ({"retention_set": {"num_images": -1}}, "num_images"),
        ({"evaluation": {"guidance": "none", "seed": 0.5}}, "seed"),
    ],
)
def test_a_card_with_defaults_that_are_none_is_at_fault(
    client: TestClient,
    data_dir: Path,
    ready: str,
    *,
    assert_problem: Callable[..., Any],
    defaults: dict[str, Any],
    field: str,
) -> None:
    _add_card(data_dir, "odd", {**CARD, "defaults": defaults})
    answer = client.post("/v1/fine_tuning/jobs", json={"model": "odd", "training_file": ready})
    assert field in assert_problem(answer, 422, "model_unreadable", param="model")["detail"]


@pytest.mark.parametrize(
    "lie",
    [{"defaults": {"training": {"learning_rate": float("nan")}}}, {"image_size": 10**400}, {"num_classes": 10**9}],
)
def test_a_card_with_numbers_that_are_none_is_no_model(client: TestClient, data_dir: Path, lie: dict[str, Any]) -> None:
    _add_card(data_dir, "odd", {**CARD, **lie})
    assert client.get("/v1/models/odd/methods/diff_tuning/schema").status_code == 404
    assert client.get("/v1/models/tiny-dit/methods/diff_tuning/schema").status_code == 200


def _add_card(data_dir: Path, model_id: str, card: dict[str, Any]) -> None:
    folder = data_dir / "models" / model_id
    folder.mkdir()
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
