from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from api.settings import Settings
from api.storage import LocalStore, ObjectStore, StoreError, open_store
from api.storage.base import disposition
from api.storage.s3 import _is_beyond_the_end


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(Settings(data_dir=tmp_path))


def test_what_is_put_is_read(store: ObjectStore, tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    info = store.put_file("a/b.bin", tmp_path / "file", content_type="application/octet-stream")
    assert (info.key, info.bytes, info.sha256) == ("a/b.bin", len(content), hashlib.sha256(content).hexdigest())
    assert b"".join(store.read("a/b.bin")) == content
    assert max(map(len, store.read("a/b.bin"))) <= 1 << 20
    assert b"".join(store.read("a/b.bin", 5, 9)) == content[5:9]
    assert b"".join(store.read("a/b.bin", len(content) - 3)) == content[-3:]
    assert list(store.read("a/b.bin", 7, 7)) == []
    assert (store.stat("a/b.bin").bytes, store.stat("a/b.bin").etag) == (len(content), info.etag)


def test_a_missing_object_says_so(store: ObjectStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.stat("a/b")
    with pytest.raises(FileNotFoundError):
        next(iter(store.read("a/b")))
    store.delete("a/b")


def test_a_stream_that_breaks_stores_nothing(store: ObjectStore) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        store.put_stream("a/b", breaking())
    assert list(store.list("")) == []
    assert isinstance(store, LocalStore)
    assert list((store.root / ".incoming").iterdir()) == []


def test_list_goes_by_prefix_in_order(store: ObjectStore) -> None:
    for key in ["b/1", "a/10", "a/1", "ab/1", "a/1x/2"]:
        store.put_stream(key, [key.encode()])
    assert [info.key for info in store.list("a/1")] == ["a/1", "a/10", "a/1x/2"]
    assert [info.key for info in store.list("a")] == ["a/1", "a/10", "a/1x/2", "ab/1"]
    assert [info.bytes for info in store.list("b/")] == [3]
    store.delete("a/1x/2")
    assert [info.key for info in store.list("a/")] == ["a/1", "a/10"]
    with pytest.raises(ValueError, match="not a prefix"):
        list(store.list("../"))


@pytest.mark.parametrize("key", ["", "/a", "a/", "../a", "a/../b", "a//b", ".hidden/a", "a/.b", "a\x00b", "a" * 600])
def test_keys_cannot_leave_the_folder(store: ObjectStore, key: str) -> None:
    for use in (lambda: store.put_stream(key, [b"x"]), lambda: store.stat(key), lambda: store.delete(key)):
        with pytest.raises(ValueError, match="not an object key"):
            use()


def test_a_store_that_is_gone_says_so(store: ObjectStore, tmp_path: Path) -> None:
    store.check()
    (tmp_path / "objects").rename(tmp_path / "moved")
    with pytest.raises(StoreError):
        store.check()


@settings(max_examples=50)
@given(st.text())
def test_file_names_are_one_header_line(filename: str) -> None:
    try:
        filename.encode()
    except UnicodeEncodeError:
        return  # no name of a file in JSON or a form
    value = disposition(filename)
    assert value.isascii()
    assert not set("\r\n") & set(value)
    assert value.count('"') == 2


def test_s3_links_are_signed_for_the_public_address() -> None:
    s3 = Settings(
        store_url="s3://bucket/some/prefix",
        s3_endpoint_url="http://store.internal:9000",
        s3_public_url="https://files.example.org",
        s3_access_key_id=SecretStr("id"),
        s3_secret_access_key=SecretStr("secret"),
    )
    store = open_store(s3)
    got = urlsplit(store.url_get("a/b", filename="ü.html", content_type="text/html", expires_s=60))
    query = parse_qs(got.query)
    assert (got.netloc, got.path) == ("files.example.org", "/bucket/some/prefix/a/b")
    assert query["response-content-disposition"] == ["attachment; filename=\"_.html\"; filename*=UTF-8''%C3%BC.html"]
    assert (query["response-content-type"], query["X-Amz-Expires"]) == (["text/html"], ["60"])
    put = urlsplit(store.url_put("a/b", num_bytes=7, expires_s=60))
    assert "content-length" in parse_qs(put.query)["X-Amz-SignedHeaders"][0]
    assert "checksum" not in put.query.lower()


def test_another_store_is_refused() -> None:
    with pytest.raises(ValueError, match="s3://"):
        open_store(Settings(store_url="gs://bucket"))


@pytest.mark.parametrize(("code", "is_beyond"), [("InvalidRange", True), ("416", True), ("AccessDenied", False)])
def test_only_a_range_behind_the_end_counts_as_one(code: str, *, is_beyond: bool) -> None:
    error = StoreError("x")
    assert not _is_beyond_the_end(error)
    error.__cause__ = ClientError({"Error": {"Code": code}}, "GetObject")
    assert _is_beyond_the_end(error) == is_beyond
