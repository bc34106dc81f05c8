"""Bodies that do not arrive, or are too large, cost nobody a place."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack

import anyio
import httpx2
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.deps import MAX_RECEIVING, Services
from api.settings import Settings
from tests.api.serving import connected, ended, read_answer, serving

JSON = b"Content-Type: application/json\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=b\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\nx'


@pytest.fixture
def app(settings: Settings) -> Iterator[FastAPI]:
    made = create_app(settings.model_copy(update={"body_idle_s": 1.0, "body_bytes_per_s": 1000.0}))
    yield made
    made.state.services.database.close()


@pytest.fixture
def port(app: FastAPI) -> Iterator[int]:
    with serving(app) as port:
        yield port


def head(path: str, token: str | None, *lines: bytes, length: int = 100) -> bytes:
    key = b"" if token is None else b"Authorization: Bearer " + token.encode() + b"\r\n"
    first = b"POST " + path.encode() + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n" + key
    return first + b"Content-Length: %d\r\n" % length + b"".join(lines) + b"\r\n"


@pytest.mark.parametrize(
    ("path", "kind"), [("/v1/uploads", JSON), ("/v1/files", FORM), ("/v1/uploads/upl_x/parts", FORM)]
)
def test_the_key_is_asked_for_before_the_body(port: int, path: str, kind: bytes) -> None:
    for token, code in ((None, "missing_api_key"), ("dft_x", "invalid_api_key")):
        with connected(port, head(path, token, kind)) as connection:
            assert read_answer(connection)[2]["code"] == code


def test_a_write_that_would_wait_too_long_is_refused_unread_and_no_read_is(
    port: int, services: Services, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = services.units._writers
    with monkeypatch.context() as busy:
        busy.setattr(writers, "_taken_s", 30.0)  # as after work that took so long
        busy.setattr(writers, "_waiting", {"default": deque(anyio.Event() for _ in range(9))})
        with connected(port, head("/v1/uploads", token, JSON), b"{") as connection:
            status, headers, body = read_answer(connection)
            assert (status, body["code"]) == (503, "busy"), "none of the places is its own"
            assert int(headers["retry-after"]) > 1
        asked = head("/v1/datasets", token, length=0).replace(b"POST", b"GET", 1)
        with connected(port, asked) as connection:
            assert read_answer(connection)[0] == 200


@pytest.mark.parametrize(
    ("path", "kind", "length"),
    [("/v1/uploads", JSON, 900_000_000), ("/v1/files", FORM, 600 << 30), ("/v1/uploads/upl_x/parts", FORM, 600 << 30)],
)
def test_an_announced_body_that_is_too_large_is_refused_unread(
    port: int, token: str, path: str, kind: bytes, length: int
) -> None:
    with connected(port, head(path, token, kind, b"Expect: 100-continue\r\n", length=length)) as connection:
        status, _, body = read_answer(connection)
        assert (status, body["code"]) == (413, "too_large")
        assert body["max_bytes"] < length


def test_a_link_takes_no_more_than_it_was_made_for(port: int, services: Services) -> None:
    url = services.store.url_put("uploads/upl_x/part_x", num_bytes=3, expires_s=60)
    path = url[url.index("/v1/") :]
    sent = head(path, None, b"Expect: 100-continue\r\n", length=4).replace(b"POST", b"PUT", 1)
    with connected(port, sent) as connection:
        assert read_answer(connection)[0] == 413


@pytest.mark.parametrize(("path", "kind", "begun"), [("/v1/uploads", JSON, b"{"), ("/v1/files", FORM, PART)])
def test_a_body_that_stops_or_drips_is_refused(port: int, token: str, path: str, kind: bytes, begun: bytes) -> None:
    with connected(port, head(path, token, kind, length=1000) + begun) as stopped:
        assert read_answer(stopped)[2]["code"] == "request_timeout"
        assert ended(stopped)
    with connected(port, head(path, token, kind, length=1000) + begun) as dripping:
        for _ in range(6):
            time.sleep(0.3)
            dripping.sendall(b" ")
        assert read_answer(dripping)[0] == 408


def test_half_sent_uploads_of_one_key_leave_places_to_others(port: int, token: str, stranger: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{port}/v1/files"
    with ExitStack() as stack:
        begun = head("/v1/files", token, FORM, length=1000) + PART
        for _ in range(MAX_RECEIVING + 2):
            stack.enter_context(connected(port, begun))
        form = {"files": {"file": ("a.zip", b"x")}, "data": {"purpose": "fine-tune"}}
        answer = httpx2.post(url, headers=stranger, timeout=20, **form)
        assert answer.status_code == 200
