"""What the doctor says of stores and of the models in them: on S3 in memory, and on folders that do wrong."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from api.doctor import broker, models, store
from api.findings import Finding
from api.settings import Settings
from api.storage import open_store
from api.storage.local import LocalStore
from api.storage.s3 import S3Store
from tests.conftest import new_store
from tests.small_s3 import SmallS3


def told(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(finding.state, finding.message) for finding in findings]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def remote(tmp_path: Path, small_server: SmallS3) -> Settings:
    return Settings(data_dir=tmp_path, **new_store(small_server))


def test_a_store_that_is_well(remote: Settings) -> None:
    assert told(store.look(remote)) == [
        ("good", f"{remote.store_url}: written, read, listed and deleted"),
        ("good", "this machine and the store agree about the time"),
    ]
    assert list(open_store(remote).list("")) == []


@pytest.mark.parametrize(
    ("ahead_s", "state", "message"),
    [
        (4, "good", "agree about the time"),
        (60, "poor", "the store's clock is 60 s ahead of this machine's: links expire early or late"),
        (-60, "poor", "the store's clock is 60 s behind this machine's: links expire early or late"),
        (1000, "bad", "the store's clock is 1000 s ahead of this machine's: signed requests are refused"),
    ],
)
def test_a_clock_that_differs(
    remote: Settings, monkeypatch: pytest.MonkeyPatch, ahead_s: float, state: str, message: str
) -> None:
    monkeypatch.setattr(S3Store, "clock_s", lambda _self: time.time() + ahead_s)
    _, clock = told(store.look(remote))
    assert clock[0] == state
    assert message in clock[1]


def test_a_bucket_that_is_missing(remote: Settings) -> None:
    lost = remote.model_copy(update={"store_url": "s3://no-such-bucket"})
    [(state, message)] = told(store.look(lost))
    assert (state, "no-such-bucket" in message) == ("bad", True)


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ({"list": lambda *_: iter(())}, "an object that was written is not listed"),
        ({"delete": lambda *_: None}, "an object that was deleted is still there"),
        ({"read": lambda self, key, *_: [(self.root / key).read_bytes()]}, "a range of an object is not what was"),
    ],
)
def test_a_store_that_does_wrong(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, does: dict[str, Any], message: str
) -> None:
    (settings.data_dir / "objects").mkdir()
    for name, instead in does.items():
        monkeypatch.setattr(LocalStore, name, instead)
    [(state, found)] = told(store.look(settings))
    assert state == "bad"
    assert message in found


def test_a_card_that_cannot_be_read_and_no_model_at_all(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "bundled_models", tmp_path / "none")
    [none] = models.look(settings)
    assert (none.state, none.message, none.advice) == ("bad", "there is none", "difftune models import")
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{")
    first, *_ = told(models.look(settings))
    assert first[0] == "bad"
    assert f"the card in {folder} cannot be read" in first[1]


def test_an_index_in_the_store_that_cannot_be_read(settings: Settings) -> None:
    open_store(settings).put_stream("models/mine/0123456789abcdef/index.json", [b"{"])
    found = told(models.look(settings))
    assert ("poor", "the index of mine in the object store cannot be read") in found
    assert found[-1][0] == "good", "those that come with the service"


def test_a_broker_that_is_no_redis(settings: Settings) -> None:
    other = settings.model_copy(update={"broker_url": "amqp://guest@127.0.0.1:5672//"})
    assert told(broker.look(other)) == [
        ("poor", "amqp://127.0.0.1:5672 is no Redis, which is all that this was tested with")
    ]


def test_a_folder_of_messages_that_cannot_be_written(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = settings.data_dir / "broker"
    folder.mkdir()
    assert told(broker.look(settings)) == [("good", f"messages go through {folder}")]
    monkeypatch.setattr(broker.os, "access", lambda *_: False)
    assert told(broker.look(settings)) == [("bad", f"{folder} cannot be written")]
