"""Heads of requests are bounded, in bytes and in time, without a key too."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request

from api import protocol
from tests.api.serving import connected, ended, read_answer, serving

MIB = 1 << 20
HOST = b"Host: 127.0.0.1\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST


@pytest.fixture
def port(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(protocol, "HEAD_S", 0.5)
    monkeypatch.setattr(protocol, "LINGER_S", 0.5)
    with serving(app) as port:
        yield port


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"GET /" + b"a" * 8 * MIB + b" HTTP/1.1\r\n" + HOST, 414, "uri_too_long"),
        (b"GET /" + b"a" * 66_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "uri_too_long"),
        (GET + b"x: " + b"a" * 8 * MIB, 431, "headers_too_large"),
        (GET + b"x: " + b"a" * 66_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (GET + b"".join(b"x-%d: 1\r\n" % n for n in range(20_000)) + b"\r\n", 431, "headers_too_large"),
        (GET + b"a" * 8 * MIB, 431, "headers_too_large"),
        (b"POST /v1/uploads HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nt: " + b"a" * MIB, 401, ""),
        (b"nonsense\r\n\r\n", 400, "malformed_request"),
        (b"CONNECT 127.0.0.1:80 HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed"),
        (b"GET http://[::1 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "malformed_request"),
    ],
    ids=["url", "whole url", "header", "whole header", "headers", "name", "trailer", "nonsense", "connect", "bad url"],
)
def test_what_is_too_long_is_refused_as_a_problem(port: int, head: bytes, status: int, code: str) -> None:
    with connected(port, head) as connection:
        got, headers, body = read_answer(connection)
        assert got == status
        assert headers["content-type"] == "application/problem+json"
        assert body["code"] == body["error"]["code"]
        assert body["code"] == (code or "missing_api_key")
        assert ended(connection)
    with connected(port, GET + b"\r\n") as connection:
        assert read_answer(connection)[0] == 200


def test_a_head_of_just_under_the_limit_is_taken(port: int) -> None:
    with connected(port, GET + b"x: " + b"a" * 60_000 + b"\r\n\r\n") as connection:
        assert read_answer(connection)[0] == 200
        connection.sendall(GET + b"\r\n")
        assert read_answer(connection)[0] == 200


def test_drips_are_counted_and_timed(port: int) -> None:
    with connected(port, GET) as connection:
        for _ in range(3):
            time.sleep(0.1)
            connection.sendall(b"x")
        status, _, body = read_answer(connection)
        assert (status, body["code"]) == (408, "request_timeout")
        assert ended(connection)
    with connected(port) as silent:
        assert ended(silent)
    with connected(port, GET + b"\r\n") as kept:
        assert read_answer(kept)[0] == 200
        kept.sendall(b"\r\n")
        assert ended(kept), "what comes between requests begins none"


def test_a_body_that_nobody_needs_is_not_waited_for(port: int) -> None:
    head = b"POST /v1/uploads HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    with connected(port, head + b"{") as connection:
        assert read_answer(connection)[0] == 401
        assert ended(connection)


def test_what_a_head_was_given_does_not_end_what_comes_after_it(port: int, token: str) -> None:
    """A body may take longer than a head, and so may the pause before the next request."""
    head = b"POST /v1/uploads HTTP/1.1\r\n" + HOST + b"Authorization: Bearer " + token.encode() + b"\r\n"
    body = b'{"filename": "a", "bytes": 3, "purpose": "fine-tune"}'
    head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with connected(port, head + body[:9]) as connection:
        time.sleep(0.7)
        connection.sendall(body[9:])
        assert read_answer(connection)[0] == 200
        time.sleep(0.7)
        connection.sendall(GET + b"\r\n")
        assert read_answer(connection)[0] == 200


def test_requests_sent_at_once_are_all_answered(port: int) -> None:
    with connected(port, (GET + b"\r\n") * 3) as connection:
        received = b""
        while received.count(b'{"status":"ok"}') < 3:
            received += connection.recv(65536)


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}x\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\n: no name\r\n\r\n"],
    ids=["size", "end", "trailer"],
)
def test_a_body_that_cannot_be_parsed_is_answered_at_once(port: int, token: str, chunks: bytes) -> None:
    json, form = b"application/json", b"multipart/form-data; boundary=b"
    for path, kind in ((b"uploads", json), (b"files", form), (b"fine_tuning/jobs/ftjob_1/cancel", json)):
        head = b"POST /v1/" + path + b" HTTP/1.1\r\n" + HOST + b"Authorization: Bearer " + token.encode()
        head += b"\r\nContent-Type: " + kind + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        with connected(port, head + chunks) as connection:
            status, headers, body = read_answer(connection)
            assert (status, body["code"]) == (400, "malformed_body")
            assert headers["content-type"] == "application/problem+json"
            assert ended(connection)


def test_what_follows_a_refused_upgrade_is_not_left_without_an_answer(port: int) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: "
    for protocol_, status in ((b"websocket", 400), (b"h2c", 200)):
        with connected(port, GET + upgrade + protocol_ + b"\r\n\r\n" + GET + b"\r\n") as connection:
            answered, headers, _ = read_answer(connection)
            assert (answered, headers["connection"]) == (status, "close"), "a client sends the rest again elsewhere"
            assert ended(connection)


def test_who_goes_away_is_not_answered_any_more(app: FastAPI, port: int) -> None:
    """An answer that goes on, as a stream of events does, ends with its connection."""
    gone = threading.Event()

    @app.get("/waits")
    async def waits(request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.set()

    with connected(port, b"GET /waits HTTP/1.1\r\n" + HOST + b"\r\n"):
        assert not gone.wait(0.1)
    assert gone.wait(10)
