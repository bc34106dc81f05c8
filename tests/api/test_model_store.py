"""Base models in the object store: whole or not at all, and listed beside those in folders."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.base_models import store as stored
from api.deps import Services
from difftune_core.files import folder_digest
from tests.api.conftest import CARD


def model_folder(root: Path, model_id: str = "letters", **fields: Any) -> Path:
    """A model's folder; its weights are any bytes, which the service never opens."""
    folder = root / model_id
    (folder / "dit").mkdir(parents=True)
    (folder / "dit" / "model.safetensors").write_bytes(model_id.encode() * 1000)
    (folder / "dit" / "config.json").write_text("{}", encoding="utf-8")
    card = {**CARD, "id": model_id, "digest": folder_digest(folder), **fields}
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def test_a_published_model_is_found_with_its_card_and_files(services: Services, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "new")
    model = stored.publish(services.store, folder)
    assert model.digest == folder_digest(folder)
    assert stored.find(services.store, "letters") == model
    assert list(stored.listed(services.store)) == [("letters", model)]
    assert [file.path for file in model.files] == ["card.json", "dit/config.json", "dit/model.safetensors"]
    for file in model.files:
        assert b"".join(services.store.read(model.key(file))) == (folder / file.path).read_bytes()
        assert model.key(file).startswith(f"models/letters/{model.digest}/")


def test_no_model_takes_anothers_id(services: Services, tmp_path: Path) -> None:
    stored.publish(services.store, model_folder(tmp_path / "new"))
    other = model_folder(tmp_path / "other")
    (other / "dit" / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(FileExistsError, match="letters"):
        stored.publish(services.store, other)
    assert len(list(stored.listed(services.store))) == 1


def test_a_model_whose_upload_was_broken_off_is_not_there(services: Services, tmp_path: Path) -> None:
    model = stored.publish(services.store, model_folder(tmp_path / "new"))
    services.store.delete(f"models/letters/{model.digest}/index.json")
    assert stored.find(services.store, "letters") is None
    assert stored.publish(services.store, tmp_path / "new" / "letters") == model, "a second try"


def test_an_id_that_begins_like_another_is_another(services: Services, tmp_path: Path) -> None:
    stored.publish(services.store, model_folder(tmp_path / "new", "letters-2"))
    assert stored.find(services.store, "letters") is None
    assert not stored.remove(services.store, "letters")


def test_a_removed_model_leaves_nothing(services: Services, tmp_path: Path) -> None:
    stored.publish(services.store, model_folder(tmp_path / "new"))
    assert stored.remove(services.store, "letters")
    assert list(services.store.list("models/")) == []
    assert stored.find(services.store, "letters") is None


def test_the_service_lists_folders_and_store(client: TestClient, services: Services, tmp_path: Path) -> None:
    stored.publish(services.store, model_folder(tmp_path / "new", description="Letters."))
    listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert listed == sorted(listed)
    assert {"letters", "tiny-dit"} <= set(listed)
    assert client.get("/v1/models/letters").json()["description"] == "Letters."
    assert client.get("/v1/models/letters/methods/diff_tuning/schema").status_code == 200


def test_a_folders_model_goes_before_the_stores(client: TestClient, services: Services, tmp_path: Path) -> None:
    stored.publish(services.store, model_folder(tmp_path / "new", "tiny-dit", description="another"))
    assert client.get("/v1/models/tiny-dit").json()["digest"] == CARD["digest"]


def test_a_feature_extractor_is_no_base_model(
    client: TestClient, services: Services, tmp_path: Path, assert_problem: Callable[..., Any]
) -> None:
    folder = model_folder(tmp_path / "new", "inception")
    (folder / "card.json").write_text('{"kind": "inception", "id": "inception"}', encoding="utf-8")
    model = stored.publish(services.store, folder)
    assert model.role == "extractor"
    assert_problem(client.get("/v1/models/inception"), 404, "model_not_found")


@pytest.mark.parametrize(
    "index", [b"{", b"{}", json.dumps({"id": "a", "digest": "b", "card": {}, "files": 1}).encode()]
)
def test_an_index_that_cannot_be_read_hides_no_other(
    client: TestClient, services: Services, logged: io.StringIO, index: bytes
) -> None:
    services.store.put_stream("models/broken/0123/index.json", [index])
    assert "tiny-dit" in [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert "broken" in [json.loads(line).get("model") for line in logged.getvalue().splitlines()]


def test_a_job_takes_its_defaults_from_the_stores_card(
    client: TestClient, services: Services, tmp_path: Path, add_file: Callable[..., str]
) -> None:
    stored.publish(services.store, model_folder(tmp_path / "new"))
    answer = client.post("/v1/fine_tuning/jobs", json={"model": "letters", "training_file": add_file()})
    assert answer.status_code == 200, answer.text
    assert answer.json()["method"]["diff_tuning"]["hyperparameters"]["max_steps"] == 300


def test_a_model_is_gone_with_the_first_object_that_is_deleted(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off, a removal must not leave a model that lacks files."""
    stored.publish(services.store, model_folder(tmp_path / "new"))
    deleted, delete = list[str](), services.store.delete

    def recorded(key: str) -> None:
        deleted.append(key)
        delete(key)

    monkeypatch.setattr(services.store, "delete", recorded)
    assert stored.remove(services.store, "letters")
    assert deleted[0].endswith("/index.json")
    assert len(deleted) > 1
