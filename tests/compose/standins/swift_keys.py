"""A Swift filter that knows one S3 key; Swift's own takes only ids of the form account:user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swift.common.middleware.tempauth import TempAuth


class OneKey(TempAuth):
    """TempAuth with the one identity of `s3.json`."""

    def __init__(self, app: Any, conf: dict[str, str]) -> None:
        super().__init__(app, conf)
        self.users[conf["access_key"]] = {"key": conf["secret_key"], "url": "/AUTH_difftune", "groups": [".admin"]}


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Callable[[Any], OneKey]:
    """For paste.deploy."""
    return lambda app: OneKey(app, {**global_conf, **local_conf})
