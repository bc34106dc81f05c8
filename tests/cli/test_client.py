"""The client against a real HTTP server that misbehaves."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cli import service as module
from difftune import service as client
from difftune.places import local_service
from difftune.service import Service, ServiceError

WHOLE = bytes(range(256)) * 40
SHA256 = hashlib.sha256(WHOLE).hexdigest()


class Cutting(BaseHTTPRequestHandler):
    """Announces all of what is missing and breaks off in the middle, once; refuses parts once for lack of room."""

    ranges: list[str]
    parts: int

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        type(self).ranges.append(asked or "")
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        rest = WHOLE[begin:]
        self.send_response(206 if asked else 200)
        self.send_header("content-length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest if asked else rest[: len(rest) // 2])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        type(self).parts += 1
        ready = type(self).parts > 1
        answer = b'{"id": "part_1"}' if ready else b'{"detail": "later"}'
        self.send_response(200 if ready else 503)
        self.send_header("retry-after", "0")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(client, "_PAUSE_S", 0.0)
    Cutting.ranges, Cutting.parts = [], 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Cutting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Service(f"http://127.0.0.1:{server.server_port}", "key") as found:
            yield found
        server.shutdown()


def test_a_download_that_breaks_off_is_taken_up_where_it_was(service: Service, tmp_path: Path) -> None:
    target = tmp_path / "model.safetensors"
    assert service.download("/file", target, SHA256) == SHA256
    assert target.read_bytes() == WHOLE
    assert Cutting.ranges == ["", f"bytes={len(WHOLE) // 2}-"]
    assert list(tmp_path.iterdir()) == [target]


def test_other_bytes_than_were_stated_leave_no_file(service: Service, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="has sha256"):
        service.download("/file", tmp_path / "model.safetensors", "0" * 64)
    assert not list(tmp_path.iterdir())


def test_a_part_that_is_refused_for_a_while_is_sent_again(service: Service) -> None:
    assert service._part("upload_1", b"x") == "part_1"
    assert Cutting.parts == 2


def test_what_is_no_service_is_said_in_a_sentence() -> None:
    with Service("http://127.0.0.1:9", "key") as found, pytest.raises(ServiceError, match="does not answer"):
        found.ask("/v1/models")


def test_a_stack_that_was_killed_is_not_taken_for_a_service(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"url": "http://127.0.0.1:9", "pid": 1}')
    (tmp_path / "api-key").write_text("key")
    assert local_service(tmp_path) is None


@pytest.mark.parametrize(("given", "used"), [(None, "own"), ("mine", "mine")])
def test_a_key_that_is_given_is_used_without_an_address_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, used: str
) -> None:
    monkeypatch.setattr(module, "_here", lambda _: ("http://127.0.0.1:9", "own"))
    with module.service(None, given, tmp_path) as found:
        assert found.key == used
