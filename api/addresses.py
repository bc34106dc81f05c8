"""Addresses of hosts and services: as URLs, `Host` headers and settings write them."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_HOST_HEADER = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(:\d+)?", re.ASCII)


def origin(host: str, port: int) -> str:
    """Base URL, for this machine, of what listens at `host` and `port`."""
    return f"http://{in_url(reached_at(host))}:{port}"


def in_url(host: str) -> str:
    """The host as a URL has it: an IPv6 literal stands in brackets."""
    bare = host.strip("[]")
    return f"[{bare.replace('%', '%25')}]" if ":" in bare else bare


def reached_at(host: str) -> str:
    """The address by which this machine reaches what listens at `host`: all addresses (`0.0.0.0`, `::`) are no address
    to ask.
    """
    return _LOOPBACK[ip_address(host).version] if is_everywhere(host) else host


def is_everywhere(host: str) -> bool:
    """Return whether `host` stands for all addresses of this machine."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def host_of(header: str) -> str:
    """The host of a `Host` header or an entry of the allowed ones, comparable: without port and brackets, in small
    letters, an IPv6 address in its short form. What is none is returned as it is.
    """
    matched = _HOST_HEADER.fullmatch(header.strip())
    host = (matched["host"] if matched else header).lower().strip("[]")
    try:
        return str(IPv6Address(host))
    except ValueError:
        return host


def host_of_url(url: str) -> str:
    """The host of a base URL, comparable with `host_of`."""
    return host_of(in_url(urlsplit(url).hostname or ""))


def path_apart(url: str) -> tuple[str, str]:
    """A base URL as its origin and its path, which is empty or begins with a slash."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")


def _base_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"{url!r} is no URL; an IPv6 address stands in brackets, as in http://[::1]:8321") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ValueError(
            f"{url!r} does not begin with http:// or https:// and a host, as https://tune.example.com does"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{url!r} has more than a host, a port and a path")
    if is_everywhere(host):
        raise ValueError(f"{url!r} stands for all addresses of a machine; clients need one that they can reach")
    return url.rstrip("/")


def _listening_host(host: str) -> str:
    bare = host.strip().strip("[]")
    is_ipv6 = ":" in bare and _is_address(bare.partition("%")[0])
    if not bare or "/" in bare or (":" in bare and not is_ipv6):
        raise ValueError(f"{host!r} is no host name or address; scheme and port do not belong to it")
    return bare


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


BaseUrl = Annotated[str, AfterValidator(_base_url)]
"""Address of a service: `http` or `https`, a host, perhaps a port and a path, no slash at its end."""
ListeningHost = Annotated[str, AfterValidator(_listening_host)]
"""A host name or address to listen at, without brackets."""
