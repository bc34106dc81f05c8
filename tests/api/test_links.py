from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.testclient import TestClient

from api.deps import Services
from api.storage.links import signing_secret

Problem = Callable[..., dict[str, Any]]
KEY = "jobs/ftjob_1/report.html"


@pytest.fixture
def link(services: Services) -> Callable[..., str]:
    services.store.put_stream(KEY, [b"<script>alert(1)</script>"])

    def make(filename: str = "report.html", expires_s: float = 60, *, inline: bool = False) -> str:
        shown = {"filename": filename, "content_type": "text/html", "expires_s": expires_s, "inline": inline}
        return services.store.url_get(KEY, **shown)

    return make


def test_a_link_needs_no_key_and_is_a_download(client: TestClient, link: Callable[..., str]) -> None:
    answer = client.get(link('a"b\r\nc.html'), headers={"authorization": ""})
    assert answer.text == "<script>alert(1)</script>"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"a_b__c.html\"; filename*=UTF-8''a%22b%0D%0Ac.html"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_link_that_shows_a_page_lets_it_run_and_load_nothing(
    client: TestClient, link: Callable[..., str], assert_problem: Problem
) -> None:
    shown = client.get(link("a.html", inline=True), headers={"authorization": ""})
    assert shown.headers["content-disposition"].startswith("inline; ")
    assert shown.headers["content-type"].startswith("text/html")
    policy = dict(part.strip().partition(" ")[::2] for part in shown.headers["content-security-policy"].split(";"))
    assert policy == {"sandbox": "", "default-src": "'none'", "img-src": "data:", "style-src": "'unsafe-inline'"}
    assert_problem(client.get(link("a.html") + "&inline=true"), 403, "link_invalid")
    assert_problem(client.get(link("a.html", inline=True).replace("&inline=true", "")), 403, "link_invalid")


def test_ranges(client: TestClient, link: Callable[..., str], assert_problem: Problem) -> None:
    part = client.get(link(), headers={"range": "bytes=1-6"})
    assert (part.status_code, part.text, part.headers["content-range"]) == (206, "script", "bytes 1-6/25")
    whole = client.head(link())
    assert (whole.headers["content-length"], whole.headers["accept-ranges"]) == ("25", "bytes")
    many = client.get(link(), headers={"range": "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 20, 2))})
    assert_problem(many, 400, "too_many_ranges", param="range")
    assert client.get(link(), headers={"range": "bytes=-6"}).text == "cript>"
    assert client.get(link(), headers={"range": "bytes=20-999999999999"}).status_code == 206


@pytest.mark.parametrize("asked", ["bytes=25-", "bytes=99-100", "bytes=-0"])
def test_a_range_beyond_the_end_tells_the_size(
    client: TestClient, link: Callable[..., str], assert_problem: Problem, asked: str
) -> None:
    answer = client.get(link(), headers={"range": asked})
    assert_problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */25"


@pytest.mark.parametrize("asked", ["", "-", "a-b", "9-5", "--5", "+1-5", "1_0-20", "1-²"])
def test_a_range_that_is_none_is_refused(
    client: TestClient, link: Callable[..., str], assert_problem: Problem, asked: str
) -> None:
    answer = client.get(link(), headers={"range": f"bytes={asked}".encode()})
    assert_problem(answer, 400, "malformed_range", param="range")


def test_ranges_of_unknown_units_are_ignored(client: TestClient, link: Callable[..., str]) -> None:
    answer = client.get(link(), headers={"range": "lines=1-2"})
    assert (answer.status_code, len(answer.content)) == (200, 25)


def test_a_full_disk_is_no_fault_of_the_client_and_leaves_nothing(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch, assert_problem: Problem
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/srv/data")

    monkeypatch.setattr("os.fsync", full)
    url = services.store.url_put("uploads/u/p", num_bytes=4, expires_s=60)
    sent = {"files": {"file": ("a.zip", b"PK")}, "data": {"purpose": "fine-tune"}}
    for answer in (client.put(url, content=b"abcd"), client.post("/v1/files", **sent)):
        body = assert_problem(answer, 507, "storage_full")
        assert (body["error"]["type"], "/srv" in answer.text) == ("server_error", False)
    monkeypatch.undo()
    assert not [path for path in services.store.root.rglob("*") if path.is_file()]


def test_a_link_is_for_one_object_one_method_and_a_while(
    client: TestClient, link: Callable[..., str], services: Services, assert_problem: Problem
) -> None:
    services.store.put_stream("jobs/ftjob_2/report.html", [b"secret"])
    assert_problem(client.get(link().replace("ftjob_1", "ftjob_2")), 403, "link_invalid")
    assert_problem(client.put(link(), content=b"x"), 403, "link_invalid")
    assert_problem(client.get(link(expires_s=-2)), 403, "link_expired")
    assert_problem(client.get(link().replace("expires=", "expires=9")), 403, "link_invalid")
    assert_problem(client.get(link() + "&type=text/plain"), 422, "repeated_parameter", param="type")
    assert_problem(client.get(f"/v1/objects/{KEY}"), 403, "link_invalid")
    assert_problem(client.get(f"/v1/objects/{KEY}?method=GET&expires=x&signature=y"), 403, "link_invalid")


def test_a_missing_object_and_a_key_that_climbs(
    client: TestClient, services: Services, assert_problem: Problem
) -> None:
    gone = services.store.url_get("jobs/gone", filename="x", content_type="a/b", expires_s=60)
    assert_problem(client.get(gone), 404, "object_not_found")
    with pytest.raises(ValueError, match="not an object key"):
        services.store.url_get("../api-key", filename="x", content_type="a/b", expires_s=60)


def test_a_put_link_takes_exactly_its_bytes(client: TestClient, services: Services, assert_problem: Problem) -> None:
    url = services.store.url_put("uploads/u/p", num_bytes=4, expires_s=60)
    assert_problem(client.put(url, content=b"abc"), 422, "wrong_size")
    assert_problem(client.put(url, content=b"abcde"), 413, "too_large")
    assert list(services.store.list("uploads/")) == []
    said = parse_qs(urlsplit(url).query)
    assert (said.keys(), said["bytes"]) == ({"method", "expires", "bytes", "signature"}, ["4"])
    assert_problem(client.put(url.replace("bytes=4", "bytes=5"), content=b"abcde"), 403, "link_invalid")
    assert client.put(url, content=b"abcd").status_code == 200
    assert [info.bytes for info in services.store.list("uploads/")] == [4]


def test_one_secret_whoever_asks_first(tmp_path: Path) -> None:
    with get_context("spawn").Pool(4) as pool:
        found = pool.map(signing_secret, [tmp_path] * 16)
    assert len(set(found)) == 1
    assert len(found[0]) == 32
    path = tmp_path / "secrets" / "link-signing.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
