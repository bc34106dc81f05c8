"""Hosts and addresses: what is listened at, what links say, which hosts are answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from api.addresses import host_of, origin
from api.app import create_app
from api.settings import Settings, faults_of
from api.storage.s3 import S3Store


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8321"),
        ("tune.lan", "http://tune.lan:8321"),
        ("::1", "http://[::1]:8321"),
        ("[2001:db8::1]", "http://[2001:db8::1]:8321"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:8321"),
        ("0.0.0.0", "http://127.0.0.1:8321"),
        ("::", "http://[::1]:8321"),
        ("0:0:0:0:0:0:0:0", "http://[::1]:8321"),
    ],
)
def test_links_of_a_listening_host_are_urls_that_can_be_asked(host: str, url: str) -> None:
    assert Settings(host=host).base_url == url


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("Tune.example.com:443", "tune.example.com"),
        ("[2001:DB8:0::1]:8321", "2001:db8::1"),
        ("[::1]", "::1"),
        ("localhost:8321:1", "localhost:8321:1"),
        ("", ""),
    ],
)
def test_a_host_header_is_compared_without_its_port_and_spelling(header: str, host: str) -> None:
    assert host_of(header) == host


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("public_url", "tune.example.com", "does not begin with http:// or https://"),
        ("public_url", "localhost:8321", "does not begin with http:// or https://"),
        ("public_url", "ftp://tune.example.com", "does not begin with http:// or https://"),
        ("public_url", "https://", "does not begin with http:// or https:// and a host"),
        ("public_url", "http://2001:db8::1:8321", "an IPv6 address stands in brackets"),
        ("public_url", "http://0.0.0.0:8321", "stands for all addresses"),
        ("public_url", "http://[::]", "stands for all addresses"),
        ("public_url", "https://a.example?x=1", "more than a host, a port and a path"),
        ("s3_public_url", "store.example.com", "does not begin with http:// or https://"),
        ("s3_endpoint_url", "store:8333", "does not begin with http:// or https://"),
        ("host", "http://127.0.0.1", "no host name or address"),
        ("host", "127.0.0.1:8321", "no host name or address"),
        ("port", 65536, "less than or equal to 65535"),
    ],
)
def test_an_address_that_is_none_is_named_at_start(name: str, value: Any, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**{name: value})
    told = faults_of(refused.value)
    assert told.startswith(f"DIFFTUNE_{name.upper()}: ")
    assert said in told
    assert "Value error" not in told


@pytest.mark.parametrize(
    ("settings", "hosts"),
    [
        ({"public_url": "http://[2001:db8::1]:8321"}, ["[2001:db8::1]:8321", "[2001:DB8:0:0::1]", "127.0.0.1:8321"]),
        ({"public_url": "https://tune.example.com/prefix"}, ["tune.example.com", "127.0.0.1:8321"]),
        ({"host": "192.0.2.7", "public_url": "https://tune.example.com"}, ["192.0.2.7:8321", "tune.example.com"]),
        ({"host": "::", "allowed_hosts": ["tune.lan"]}, ["[::1]:8321", "tune.lan:8321"]),
        ({"host": "0.0.0.0", "allowed_hosts": ["2001:db8::2"]}, ["127.0.0.1:8321", "[2001:db8::2]:1"]),
    ],
)
def test_a_service_answers_for_its_own_addresses(settings: dict[str, Any], hosts: list[str], tmp_path: Path) -> None:
    client = TestClient(create_app(Settings(data_dir=tmp_path, **settings)))
    assert [client.get("/healthz", headers={"host": host}).status_code for host in hosts] == [200] * len(hosts)


def test_a_host_that_is_refused_learns_which_settings_name_hosts(tmp_path: Path) -> None:
    client = TestClient(create_app(Settings(data_dir=tmp_path, host="0.0.0.0")))
    answer = client.get("/healthz", headers={"host": "tune.lan:8321"})
    assert (answer.status_code, answer.json()["code"]) == (400, "host_not_allowed")
    assert all(name in answer.json()["detail"] for name in ("'tune.lan'", "DIFFTUNE_PUBLIC_URL", "DIFFTUNE_ALLOWED"))


def test_the_schema_names_the_address_of_the_service(tmp_path: Path) -> None:
    public = "https://tune.example.com/prefix"
    client = TestClient(create_app(Settings(data_dir=tmp_path, public_url=f"{public}/")))
    assert client.get("/openapi.json").json()["servers"] == [{"url": public}]


def test_a_path_before_an_object_store_is_in_links_and_not_in_what_they_sign() -> None:
    """A proxy takes it away again: the store must find the signature that it computes itself."""
    given: dict[str, Any] = {"s3_access_key_id": "id", "s3_secret_access_key": "secret", "store_url": "s3://bucket/all"}
    plain, prefixed = (
        S3Store(Settings(**given, s3_public_url=f"https://tune.example.com{path}")) for path in ("", "/a/prefix/")
    )
    for link in (
        lambda store: store.url_get("one/object", filename="a b.zip", content_type="application/zip", expires_s=60),
        lambda store: store.url_put("one/object", num_bytes=3, expires_s=60),
    ):
        direct, through = of_one_second(lambda made=link: (made(plain), made(prefixed)))
        assert through.path == f"/a/prefix{direct.path}" == "/a/prefix/bucket/all/one/object"
        assert (through.netloc, through.query) == ("tune.example.com", direct.query)


def of_one_second(make: Callable[[], tuple[str, str]]) -> list[SplitResult]:
    """Links whose signatures can be compared: they are of the same date."""
    while True:
        links = [urlsplit(link) for link in make()]
        if len({parse_qs(link.query)["X-Amz-Date"][0] for link in links}) == 1:
            return links


def test_an_origin_of_a_name_is_left_as_it_is() -> None:
    assert origin("localhost", 1) == "http://localhost:1"
