"""What OpenAI's documents allow in a job and ours says otherwise."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticCustomError

_AUTO = "auto"
_HYPERPARAMETERS = frozenset({"batch_size", "n_epochs", "learning_rate_multiplier"})


def without_auto(body: Any) -> Any:
    """The body without hyper-parameters of OpenAI's that are `auto`: left out is what that means here."""
    if not isinstance(body, dict) or not isinstance(method := body.get("method"), dict):
        return body
    return {**body, "method": {name: _of_method(value) for name, value in method.items()}}


def _of_method(value: Any) -> Any:
    if not isinstance(value, dict) or not isinstance(given := value.get("hyperparameters"), dict):
        return value
    return {**value, "hyperparameters": _stated(given)}


def _stated(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in _HYPERPARAMETERS or value != _AUTO}


def refuse_legacy(value: Any) -> None:
    """OpenAI's former field beside `method`: nothing, or nothing but `auto`."""
    if value is not None and not (isinstance(value, dict) and not _stated(value)):
        raise PydanticCustomError(
            "legacy_field",
            "hyper-parameters belong to the method: method.diff_tuning.hyperparameters or "
            "method.supervised.hyperparameters",
        )
