"""Models of the object store on a node that lacks them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.base_models import store as stored
from api.base_models.store import StoredModel
from api.jobs.models import Job
from api.settings import Settings
from api.storage import LocalStore, open_store
from difftune_core.config.card import list_cards, read_card
from difftune_core.files import folder_digest
from difftune_core.hooks import TaskError
from worker.base_models import MODELS, contents_of, ensure_model, model_roots
from worker.workspace import ensure_file

Bench = Any  # the class of conftest.py


class CountingStore(LocalStore):
    """A real one that counts what is read of models' weights."""

    fetched = 0

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        self.fetched += key.endswith(".safetensors")
        return super().read(key, start, end)


@pytest.fixture
def store(settings: Settings) -> CountingStore:
    opened = open_store(settings)
    assert isinstance(opened, LocalStore)
    return CountingStore(opened.root, opened.secret, opened.base_url)


def published(store: LocalStore, root: Path, model_id: str, **card: Any) -> StoredModel:
    folder = root / model_id
    (folder / "dit").mkdir(parents=True)
    (folder / "dit" / "model.safetensors").write_bytes(f"weights of {model_id}".encode() * 100)
    fields = {"id": model_id, **card, "digest": folder_digest(folder)}
    (folder / "card.json").write_text(json.dumps(fields), encoding="utf-8")
    return stored.publish(store, folder)


@pytest.fixture
def letters(store: LocalStore, tmp_path: Path) -> StoredModel:
    published(store, tmp_path / "imported", "eyes", kind="tiny")
    base = {"family": "dit", "image_size": 32, "feature_extractor": "eyes"}
    return published(store, tmp_path / "imported", "letters", **base)


def nothing() -> None:
    """A run that goes on."""


def test_a_node_fetches_a_model_and_its_extractor_once(
    store: CountingStore, settings: Settings, letters: StoredModel
) -> None:
    first = model_roots(store, settings, ["letters"], nothing)
    folder = list_cards(first)["letters"]
    assert folder == settings.data_dir / "cache" / MODELS / contents_of(letters) / "letters"
    assert read_card(folder).digest == folder_digest(folder)
    assert [root for root in first if (root / "eyes").is_dir()]
    assert store.fetched == 2
    assert model_roots(store, settings, ["letters"], nothing) == first
    assert store.fetched == 2
    assert not list((settings.data_dir / "cache" / MODELS).glob(".*"))


def test_a_model_in_a_folder_is_not_fetched(store: CountingStore, settings: Settings, letters: StoredModel) -> None:
    own = settings.data_dir / "models" / "letters"
    own.mkdir(parents=True)
    (own / "card.json").write_text(json.dumps({**letters.card, "feature_extractor": "tiny-features"}), encoding="utf-8")
    assert model_roots(store, settings, ["letters"], nothing) == settings.model_roots
    assert store.fetched == 0


def test_a_model_that_is_nowhere_is_left_to_the_trainer(store: CountingStore, settings: Settings) -> None:
    assert model_roots(store, settings, ["nowhere"], nothing) == settings.model_roots


@pytest.mark.parametrize(
    ("damage", "message"),
    [(b"weights of another", "dit/model.safetensors is damaged"), (None, "not in the store any more")],
)
def test_a_damaged_model_is_refused_and_not_kept(
    store: CountingStore, settings: Settings, letters: StoredModel, damage: bytes | None, message: str
) -> None:
    key = f"models/letters/{letters.digest}/dit/model.safetensors"
    store.delete(key)
    if damage is not None:
        store.put_stream(key, [damage])
    with pytest.raises(TaskError, match=message):
        model_roots(store, settings, ["letters"], nothing)
    assert list((settings.data_dir / "cache" / MODELS).iterdir()) == []


def test_files_that_fit_their_list_but_not_the_digest_are_refused(
    store: CountingStore, settings: Settings, letters: StoredModel
) -> None:
    with pytest.raises(TaskError, match="do not have its digest") as caught:
        ensure_model(store, letters.model_copy(update={"files": letters.files[:1]}), settings.data_dir, nothing)
    assert caught.value.code == "damaged_file"


@pytest.mark.parametrize("name", ["../escaped", "/etc/escaped", "dit/../../../escaped"])
def test_an_index_cannot_name_files_outside(
    store: CountingStore, settings: Settings, letters: StoredModel, name: str
) -> None:
    odd = letters.files[0].model_copy(update={"path": name})
    with pytest.raises(TaskError, match="names a file") as caught:
        ensure_model(store, letters.model_copy(update={"files": [odd]}), settings.data_dir, nothing)
    assert caught.value.code == "model_unreadable"


def test_a_run_that_must_end_stops_fetching(store: CountingStore, settings: Settings, letters: StoredModel) -> None:
    def end() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        ensure_model(store, letters, settings.data_dir, end)
    assert list((settings.data_dir / "cache" / MODELS).iterdir()) == []


def test_the_child_is_given_the_fetched_model(bench: Bench, tmp_path: Path) -> None:
    base = {"family": "dit", "image_size": 32, "feature_extractor": "tiny-features"}
    model = published(bench.store, tmp_path / "imported", "letters", **base)
    eyes = published(bench.store, tmp_path / "imported", "eyes", kind="tiny")
    job_id = bench.job({"steps": 2})
    with bench.database.write() as session:
        row = session.get_one(Job, job_id)
        evaluation = {**row.config["evaluation"], "feature_extractors": ["tiny-features", "eyes"]}
        row.config = {**row.config, "model": "letters", "evaluation": evaluation}
    with bench.worker():
        job = bench.wait_final(job_id)
    assert job.status == "succeeded", job.error_message
    cache = bench.settings.data_dir / "cache" / MODELS
    assert (cache / contents_of(model) / "letters" / "card.json").is_file()
    assert (cache / contents_of(eyes) / "eyes" / "card.json").is_file()


def test_a_model_that_was_damaged_on_this_node_is_fetched_again(
    store: CountingStore, settings: Settings, letters: StoredModel
) -> None:
    root = ensure_model(store, letters, settings.data_dir, nothing)
    weights = root / "letters" / "dit" / "model.safetensors"
    weights.write_bytes(b"other weights")
    ensure_model(store, letters, settings.data_dir, nothing)
    assert folder_digest(root / "letters") == letters.digest


def test_a_card_that_is_imported_anew_is_fetched_beside_the_same_weights(
    store: CountingStore, settings: Settings, letters: StoredModel, tmp_path: Path
) -> None:
    before = ensure_model(store, letters, settings.data_dir, nothing)
    stored.remove(store, "letters")
    base = {"family": "dit", "image_size": 32, "feature_extractor": "eyes", "licence": "CC0"}
    again = published(store, tmp_path / "again", "letters", **base)
    assert again.digest == letters.digest
    after = ensure_model(store, again, settings.data_dir, nothing)
    assert [read_card(root / "letters").licence for root in (before, after)] == ["unknown", "CC0"]


def test_a_cached_file_that_was_damaged_is_fetched_again(store: LocalStore, tmp_path: Path) -> None:
    sha256 = str(store.put_stream("retention_sets/a", [b"images"]).sha256)
    cached = ensure_file(store, "retention_sets/a", sha256, tmp_path / "cached", nothing)
    cached.write_bytes(b"imbges")
    assert ensure_file(store, "retention_sets/a", sha256, cached, nothing).read_bytes() == b"images"
