"""What only a store behind a network does: refuse damaged bytes, answer late, with an error, or not at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from api.settings import Settings
from api.storage import StoreError
from api.storage.s3 import S3Store
from tests.storage.proxy import FaultyProxy

pytestmark = pytest.mark.s3


@pytest.fixture
def proxy(settings: Settings) -> Iterator[FaultyProxy]:
    with FaultyProxy(int(str(settings.s3_endpoint_url).rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture
def remote(settings: Settings, proxy: FaultyProxy) -> S3Store:
    """The store behind the faulty road, which was probed while the road was good."""
    remote = S3Store(settings.model_copy(update={"s3_endpoint_url": proxy.endpoint, "s3_timeout_s": 0.5}))
    assert remote.conditional in {True, False}
    return remote


def test_bytes_that_changed_on_their_way_are_refused(store: S3Store, settings: Settings) -> None:
    def damage(request: Any, **_: Any) -> None:
        request.body = b"damaged!"

    store._client.meta.events.register_last("before-send.s3.PutObject", damage)
    with pytest.raises(StoreError, match="what arrived there is not what was sent"):
        store.put_stream("a/b", [b"original"])
    assert list(S3Store(settings).list("a/")) == []


def test_errors_are_tried_again_after_pauses_that_differ(remote: S3Store, proxy: FaultyProxy) -> None:
    pauses = set()
    for number in range(3):
        proxy.refused.clear()
        proxy.fail_next(2)
        remote.put_stream(f"a/{number}", [b"arrived"])
        assert len(proxy.refused) == 2
        pauses |= {round(later - earlier, 2) for earlier, later in pairwise(proxy.refused)}
    assert len(pauses) > 1, "without jitter all clients of a store that recovers come back at once"
    assert b"".join(remote.read("a/2")) == b"arrived"


def test_a_store_that_only_answers_with_errors_is_named(remote: S3Store, proxy: FaultyProxy, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    proxy.fail_next(4)
    with pytest.raises(StoreError, match="the object store"):
        remote.put_file("a/b", tmp_path / "file", content_type="text/plain")
    assert list(remote.list("")) == []
    remote.put_file("a/b", tmp_path / "file", content_type="text/plain")
    assert remote.stat("a/b").sha256 is not None


def test_an_answer_that_was_lost_does_not_count_against_us(remote: S3Store, proxy: FaultyProxy) -> None:
    proxy.cut_next(1, after=0)
    assert remote.put_stream("a/b", [b"once"]).bytes == 4
    assert b"".join(remote.read("a/b")) == b"once"


def test_a_read_goes_on_where_the_connection_broke(remote: S3Store, proxy: FaultyProxy) -> None:
    data = bytes(range(256)) * 20_000
    remote.put_stream("a/b", [data])
    proxy.cut_next(2, after=2_000_000)
    assert b"".join(remote.read("a/b")) == data
    proxy.cut_next(1, after=1_000_000)
    assert b"".join(remote.read("a/b", 100, 3_000_000)) == data[100:3_000_000]


@pytest.mark.real_s3
def test_a_read_that_breaks_again_and_again_says_so(remote: S3Store, proxy: FaultyProxy) -> None:
    remote.put_stream("a/b", [b"x" * 1_000_000])
    proxy.cut_next(100, after=300)
    with pytest.raises(StoreError):
        b"".join(remote.read("a/b"))


def test_a_store_that_is_slow_or_gone_is_given_up_in_time(remote: S3Store, proxy: FaultyProxy) -> None:
    proxy.delay(2.0)
    began = time.monotonic()
    with pytest.raises(StoreError, match="did not answer"):
        remote.check()
    assert time.monotonic() - began < 20
    proxy.delay(0.0)
    proxy.vanish()
    with pytest.raises(StoreError, match="did not answer"):
        remote.put_stream("a/b", [b"x"])
    proxy.vanish(gone=False)
    remote.check()
    assert list(remote.list("a/")) == []


@pytest.mark.real_s3
def test_a_clock_that_is_off_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where awscrt signs."""
    late = datetime.now(UTC) + timedelta(hours=1)
    for module in ("botocore.auth", *(["botocore.crt.auth"] if find_spec("awscrt") else [])):
        monkeypatch.setattr(f"{module}.get_current_datetime", lambda *_, **__: late)
    store = S3Store(settings)
    with pytest.raises(StoreError, match="clock"):
        store.put_stream("a/b", [b"x"])


@pytest.mark.real_s3
@pytest.mark.parametrize(("field", "reason"), [("s3_access_key_id", "key"), ("s3_secret_access_key", "key")])
def test_wrong_credentials_are_named(settings: Settings, field: str, reason: str) -> None:
    store = S3Store(settings.model_copy(update={field: SecretStr("wrong:one")}))
    with pytest.raises(StoreError, match=reason):
        store.put_stream("a/b", [b"x"])


def test_a_store_that_ignores_conditions_is_found_out(store: S3Store, settings: Settings) -> None:
    """The probe can say no: without the header on its way nothing keeps the second put from overwriting."""
    assert store.conditional
    deaf = S3Store(settings)

    def lose(request: Any, **_: Any) -> None:
        del request.headers["If-None-Match"]

    deaf._client.meta.events.register("before-sign.s3.PutObject", lose)
    assert not deaf.conditional
    deaf.put_stream("a/b", [b"first"])
    deaf.put_stream("a/b", [b"first"])
    assert [info.key for info in deaf.list("")] == ["a/b"]
