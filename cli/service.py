"""Questions to a running service."""

from __future__ import annotations

from typing import Any

import httpx2

from cli.settings import failed

_TIMEOUT_S = 30.0


def ask(url: str, key: str | None, path: str, *, method: str = "GET", **params: Any) -> dict[str, Any]:
    """What `path` answers.

    Raises:
        typer.Exit: no key, no service, or the service's own refusal, which is quoted.
    """
    if not key:
        raise failed("--url needs an API key: --key, or DIFFTUNE_API_KEY in the environment")
    try:
        with httpx2.Client(base_url=url, timeout=_TIMEOUT_S, headers={"authorization": f"Bearer {key}"}) as client:
            answer = client.request(method, path, params=params)
            body = answer.json()
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise failed(f"{url} does not answer as a difftune service: {error}") from None
    if not isinstance(body, dict) or answer.is_error:
        detail = body.get("detail") if isinstance(body, dict) else None
        raise failed(detail or f"{url} answers with status {answer.status_code}")
    return body
