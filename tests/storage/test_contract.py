"""What every store does: the same tests on a folder, on S3 in memory, on OpenStack Swift and on Ceph RGW."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import Settings
from api.storage import LocalStore, ObjectStore, StoreError, open_store

LARGE = bytes(range(251)) * 80_000  # three parts
ROOT = Path(__file__).parents[2]


@pytest.fixture
def browse(settings: Settings, store: ObjectStore) -> Iterator[Callable[..., Any]]:
    """Use a link as a client does: without a key of ours."""
    if isinstance(store, LocalStore):
        with TestClient(create_app(settings)) as client:
            yield client.request
    else:
        with httpx2.Client() as client:
            yield client.request


def content(store: ObjectStore, key: str, *span: int) -> bytes:
    return b"".join(store.read(key, *span))


def test_what_is_put_is_read(store: ObjectStore, tmp_path: Path) -> None:
    for name, data in (("small", b"x" * 1000), ("large", LARGE), ("empty", b"")):
        (tmp_path / name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        from_file = store.put_file(f"a/{name}.bin", tmp_path / name, content_type="application/octet-stream")
        chunks = (data[start : start + 300_000] for start in range(0, len(data), 300_000))
        from_stream = store.put_stream(f"b/{name}.bin", chunks)
        for info in (from_file, from_stream):
            assert (info.bytes, info.sha256) == (len(data), digest)
            assert content(store, info.key) == data
            found = store.stat(info.key)
            assert (found.key, found.bytes) == (info.key, len(data))
            assert found.modified == pytest.approx(time.time(), abs=60)
    assert max(map(len, store.read("a/large.bin"))) <= 1 << 20


def test_a_file_is_put_again_and_never_over_another(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(b"mine")
    (tmp_path / "other").write_bytes(b"theirs")
    first = store.put_file("a/b", tmp_path / "first", content_type="image/png")
    assert store.put_file("a/b", tmp_path / "first", content_type="image/png") == first
    with pytest.raises(FileExistsError):
        store.put_file("a/b", tmp_path / "other", content_type="image/png")
    assert content(store, "a/b") == b"mine"


def test_a_file_whose_digest_is_known_is_not_read_for_it(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("local", "s3"):
        monkeypatch.setattr(f"api.storage.{module}.sha256_file", None)
    (tmp_path / "file").write_bytes(b"saved")
    known = hashlib.sha256(b"saved").hexdigest()
    info = store.put_file("a/b", tmp_path / "file", content_type="image/png", sha256=known)
    assert (info.bytes, info.sha256) == (5, known)
    assert content(store, "a/b") == b"saved"


def test_ranges(store: ObjectStore) -> None:
    data = bytes(range(256)) * 40
    store.put_stream("a/b", [data])
    store.put_stream("a/empty", [])
    assert content(store, "a/b", 5, 9) == data[5:9]
    assert content(store, "a/b", len(data) - 3) == data[-3:]
    assert content(store, "a/b", 7, 7) == content(store, "a/b", 9, 7) == b""
    assert content(store, "a/b", 10_000, 99_999) == data[10_000:]
    assert content(store, "a/b", len(data)) == content(store, "a/b", 10**6) == content(store, "a/empty", 1) == b""
    assert content(store, "a/empty") == content(store, "a/empty", 0, 9) == b""


def test_a_missing_object_says_so(store: ObjectStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.stat("a/b")
    with pytest.raises(FileNotFoundError):
        next(iter(store.read("a/b")))
    store.delete("a/b")
    store.put_stream("a/b", [b"x"])
    store.delete("a/b")
    store.delete("a/b")
    with pytest.raises(FileNotFoundError):
        store.stat("a/b")


def test_list_goes_by_prefix_in_order(store: ObjectStore) -> None:
    for key in ["b/1", "a/10", "a/1", "ab/1", "a/1x/2"]:
        store.put_stream(key, [key.encode()])
    assert [info.key for info in store.list("a/1")] == ["a/1", "a/10", "a/1x/2"]
    assert [info.key for info in store.list("a")] == ["a/1", "a/10", "a/1x/2", "ab/1"]
    assert [(info.key, info.bytes) for info in store.list("b/")] == [("b/1", 3)]
    assert all(info.modified == pytest.approx(time.time(), abs=60) for info in store.list(""))
    store.delete("a/1x/2")
    assert [info.key for info in store.list("a/")] == ["a/1", "a/10"]
    assert list(store.list("nothing/")) == []


@pytest.mark.parametrize("key", ["k", "_._/x=1", "/".join(["a"] * 16), "a" * 128 + "/" + "B" * 128, "0.--..tar.gz"])
def test_odd_keys(store: ObjectStore, key: str, browse: Callable[..., Any]) -> None:
    store.put_stream(key, [b"odd"])
    assert [info.key for info in store.list("")] == [key]
    assert content(store, key) == b"odd"
    url = store.url_get(key, filename="a", content_type="text/plain", expires_s=60)
    assert browse("GET", url).content == b"odd"
    store.delete(key)
    assert list(store.list("")) == []


@pytest.mark.parametrize("key", ["", "/a", "a/", "../a", "a/../b", "a//b", ".hidden/a", "a/.b", "a\x00b", "a" * 600])
def test_what_is_no_key_is_refused(store: ObjectStore, key: str) -> None:
    for use in (lambda: store.put_stream(key, [b"x"]), lambda: store.stat(key), lambda: store.delete(key)):
        with pytest.raises(ValueError, match="not an object key"):
            use()


@pytest.mark.parametrize("sent", [4, 12 << 20])
def test_a_stream_that_breaks_stores_nothing(store: ObjectStore, sent: int) -> None:
    def breaking() -> Iterator[bytes]:
        for _ in range(0, sent, 1 << 20):
            yield b"x" * min(sent, 1 << 20)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        store.put_stream("a/b", breaking())
    assert list(store.list("")) == []
    assert store.forget_unfinished(0) == 0


def test_a_killed_writer_leaves_nothing_visible(store: ObjectStore, settings: Settings) -> None:
    """Parts that it had sent take room until they are forgotten, and a write under way is not."""
    code = (
        "import sys, itertools, time; from api.settings import Settings; from api.storage import open_store\n"
        "def chunks():\n"
        "    for n in itertools.count():\n"
        "        yield bytes(1 << 20)\n"
        "        if n == 20: print('sent', flush=True); time.sleep(60)\n"
        "open_store(Settings()).put_stream('a/b', chunks())"
    )
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    ours = {
        f"DIFFTUNE_{name.upper()}": str(value.get_secret_value() if "key" in name else value)
        for name, value in given.items()
    }
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env={**os.environ, **ours}, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert b"sent\n" in iter(writer.stdout.readline, b"")
        assert store.forget_unfinished(3600) == 0
        writer.send_signal(signal.SIGKILL)
    assert list(store.list("")) == []
    with pytest.raises(FileNotFoundError):
        store.stat("a/b")
    assert [store.forget_unfinished(3600), store.forget_unfinished(-1), store.forget_unfinished(-1)] == [0, 1, 0]
    store.put_stream("a/b", [b"again"])
    assert content(store, "a/b") == b"again"


def test_writers_that_race_for_a_key_do_not_mix(store: ObjectStore) -> None:
    """Where the store keeps a put from overwriting, later ones are told so; the same bytes again are no error."""
    data = [bytes([number]) * 100_000 for number in range(8)]

    def put(number: int) -> int | None:
        try:
            store.put_stream("a/b", [data[number]])
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        won = [number for number in pool.map(put, range(8)) if number is not None]
    stored = content(store, "a/b")
    assert stored in [data[number] for number in won]
    assert store.put_stream("a/b", [stored]).bytes == 100_000
    assert content(store, "a/b") == stored
    if isinstance(store, LocalStore):
        assert len(won) == 1
    if isinstance(store, LocalStore) or store.conditional:  # type: ignore[attr-defined]  # an S3 store knows
        with pytest.raises(FileExistsError):
            store.put_stream("a/b", [b"another"])
        assert content(store, "a/b") == stored


def test_a_link_downloads_one_object(store: ObjectStore, browse: Callable[..., Any]) -> None:
    store.put_stream("a/b", [b"<script>0123456789"])
    store.put_stream("a/c", [b"another"])
    url = store.url_get("a/b", filename='ü"\r\n.html', content_type="text/html", expires_s=60)
    answer = browse("GET", url)
    assert (answer.status_code, answer.content) == (200, b"<script>0123456789")
    named = answer.headers["content-disposition"]
    assert named == "attachment; filename=\"____.html\"; filename*=UTF-8''%C3%BC%22%0D%0A.html"
    assert answer.headers["content-type"].startswith("text/html")
    part = browse("GET", url, headers={"range": "bytes=8-11"})
    assert (part.status_code, part.content) == (206, b"0123")
    for method, other in (("GET", url.replace("a/b", "a/c")), ("PUT", url), ("DELETE", url)):
        assert browse(method, other).status_code in {403, 405}, (method, other)
    assert content(store, "a/b") == b"<script>0123456789"


def test_a_link_uploads_exactly_so_many_bytes(store: ObjectStore, browse: Callable[..., Any]) -> None:
    url = store.url_put("a/b", num_bytes=5, expires_s=60)
    assert browse("PUT", url, content=b"too long").status_code >= 400
    assert browse("PUT", url, content=b"tiny").status_code >= 400
    assert list(store.list("")) == []
    assert browse("PUT", url, content=b"right").status_code == 200
    assert content(store, "a/b") == b"right"
    assert browse("PUT", url.replace("a/b", "a/c"), content=b"right").status_code == 403
    assert browse("GET", url).status_code == 403


def test_links_expire(store: ObjectStore, browse: Callable[..., Any]) -> None:
    store.put_stream("a/b", [b"x"])
    get = store.url_get("a/b", filename="b", content_type="text/plain", expires_s=1)
    put = store.url_put("a/c", num_bytes=1, expires_s=1)
    time.sleep(2.1)
    assert browse("GET", get).status_code == 403
    assert browse("PUT", put, content=b"x").status_code == 403
    assert [info.key for info in store.list("")] == ["a/b"]


def test_a_store_that_is_there_says_so(store: ObjectStore, settings: Settings) -> None:
    store.check()
    if isinstance(store, LocalStore):
        store.root.rename(store.root.with_name("moved"))
        lost: ObjectStore = store
    else:
        lost = open_store(settings.model_copy(update={"store_url": "s3://no-such-bucket"}))
    with pytest.raises(StoreError):
        lost.check()


@pytest.mark.s3
def test_links_are_for_the_public_address(settings: Settings) -> None:
    """A store behind a name that services do not use: the signature is for the host that clients see."""
    port = urlsplit(settings.s3_endpoint_url or "").port
    public = settings.model_copy(update={"s3_public_url": f"http://localhost:{port}"})
    store = open_store(public)
    store.put_stream("a/b", [b"seen from outside"])
    url = store.url_get("a/b", filename="b", content_type="text/plain", expires_s=60)
    assert urlsplit(url).hostname == "localhost"
    assert httpx2.get(url).content == b"seen from outside"
    sent = httpx2.put(store.url_put("a/c", num_bytes=3, expires_s=60), content=b"abc")
    assert sent.status_code == 200
