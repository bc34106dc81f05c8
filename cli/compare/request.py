"""The body of `POST /v1/comparisons` from options and a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli.settings import failed

_MODEL, _CONTROLLED_MODEL = "tiny-dit", "tiny-sd"
_METHODS = "supervised,diff_tuning"

Body = dict[str, Any]


def read_request(
    config: Path | None,
    *,
    model: str | None,
    condition: str | None,
    methods: str | None,
    seeds: str | None,
    max_steps: int | None,
) -> Body:
    """The body without its files. What an option states goes before what the JSON file says.

    Raises:
        typer.Exit: the file or an option cannot be read; says why.
    """
    body = _read(config) if config else {}
    if condition:
        stated = body.get("control")
        body["control"] = {**(stated if isinstance(stated, dict) else {}), "condition": condition}
    body["model"] = model or body.get("model", _CONTROLLED_MODEL if "control" in body else _MODEL)
    if methods or "methods" not in body:
        names = [name.strip() for name in (methods or _METHODS).split(",") if name.strip()]
        if unknown := [name for name in names if name not in _METHODS.split(",")]:
            raise failed(f"--methods: there is no method {unknown[0]!r}; there are {_METHODS} (others: --config)")
        body["methods"] = [{"name": name, "method": {"type": name}} for name in names]
    if seeds:
        body["seeds"] = _numbers(seeds)
    if max_steps is not None:
        _set_steps(body["methods"], max_steps)
    return body


def _read(path: Path) -> Body:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise failed(f"--config: {path}: {error.strerror}") from None
    except ValueError as error:
        raise failed(f"--config: {path} is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise failed(f"--config: {path} must hold a JSON object")
    for field in ("training_file", "validation_file"):
        if field in body:
            raise failed(f"--config: {field} is an option here: --data, --validation")
    return body


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise failed(f"--seeds: {text!r} are no whole numbers separated by commas") from None


def _set_steps(methods: Any, max_steps: int) -> None:
    """Give every method the same budget; what is no method is left for the service to name."""
    for entry in methods if isinstance(methods, list) else []:
        method = entry.get("method") if isinstance(entry, dict) else None
        if isinstance(method, dict) and isinstance(kind := method.get("type"), str):
            spec = method.setdefault(kind, {})
            if isinstance(spec, dict) and isinstance(known := spec.setdefault("hyperparameters", {}), dict):
                known["max_steps"] = max_steps
