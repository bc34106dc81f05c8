from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import redis

from api.findings import Finding, bad, good, poor
from api.settings import Settings

_CHECK = "broker"
_TIMEOUT_S = 3.0


def look(settings: Settings) -> Iterator[Finding]:
    """Find out whether messages can be sent; without them workers find their work by polling, a little later."""
    url = settings.broker_url
    if url is None:
        folder = settings.data_dir / "broker"
        writable = not folder.exists() or os.access(folder, os.W_OK)
        yield good(_CHECK, f"messages go through {folder}") if writable else bad(_CHECK, f"{folder} cannot be written")
        return
    address = urlsplit(url)
    where = f"{address.scheme}://{address.hostname}:{address.port or 6379}"
    if address.scheme not in {"redis", "rediss"}:
        yield poor(_CHECK, f"{where} is no Redis, which is all that this was tested with")
        return
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=_TIMEOUT_S, socket_timeout=_TIMEOUT_S) as client:
            client.ping()
            version = client.info("server")["redis_version"]
    except redis.AuthenticationError:
        yield bad(_CHECK, f"{where} refuses the password", "Check DIFFTUNE_BROKER_URL.")
    except redis.RedisError as error:
        advice = "Jobs run all the same, found by polling. Check DIFFTUNE_BROKER_URL, and whether Redis runs."
        yield poor(_CHECK, f"{where} does not answer: {error}", advice)
    else:
        if address.password is None and address.hostname not in {"127.0.0.1", "localhost", "::1"}:
            yield poor(_CHECK, f"{where} asks for no password", "Set one: whoever reaches it can fill it.")
        yield good(_CHECK, f"Redis {version} at {where}")
