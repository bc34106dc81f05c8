"""What is said of a job in a line of Python or on the command line, as the fields of the API."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from difftune_core.config.methods.table import label_of, method_names, settings_of
from difftune_core.config.transfer import TransferConfig

_OF_IMAGES = ("training_file", "validation_file")
OF_SERVICE = frozenset({"suffix", "metadata", "priority", *_OF_IMAGES})
"""Fields of a job that a training without a service has no use for."""
LENGTHS = ("max_steps", "epochs")
_BASE_MODEL = "tiny-dit"


def job_body(
    config: Mapping[str, Any] | None = None,
    *,
    model: str | None = None,
    method: str | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return the fields of a job.

    Args:
        config: fields as for `POST /v1/fine_tuning/jobs`; what is said beside it goes before it.
        model: id of a base model or checkpoint; default `tiny-dit`.
        method: `diff_tuning` (default), `supervised`, or another that is installed.
        steps: optimizer steps.
        epochs: in place of steps, passes over the training images.
        fields: any other field of a job (`seed`, `evaluation`, `control` ...), or hyper-parameter of its method (`tau`,
            `batch_size` ...); None counts as not said.

    Raises:
        ValueError: there is no such field, or both steps and epochs are stated.
    """
    if steps is not None and epochs is not None:
        raise ValueError("steps or epochs, not both")
    body = dict(config or {})
    body["model"] = model or body.get("model", _BASE_MODEL)
    choose_method(body, method, {"max_steps": steps, "epochs": epochs})
    kind = body["method"]["type"]
    of_method = settings_of(kind)
    for name, value in fields.items():
        if value is None:
            continue
        if name in TransferConfig.model_fields or name in OF_SERVICE:
            body[name] = value
        elif name in of_method.model_fields:
            body["method"].setdefault(kind, {}).setdefault("hyperparameters", {})[name] = value
        else:
            raise ValueError(_unknown(name, kind, [*TransferConfig.model_fields, *OF_SERVICE, *of_method.model_fields]))
    return body


def choose_method(body: dict[str, Any], kind: str | None, lengths: Mapping[str, float | None]) -> None:
    """Put the method and the run's length into the body; a length takes the place of any that is in it."""
    stated = body.get("method") if isinstance(body.get("method"), dict) else {}
    kind = kind or (stated or {}).get("type") or method_names()[0]
    spec = dict((stated or {}).get(kind) or {})
    chosen = {field: value for field, value in lengths.items() if value is not None}
    others = dict(spec.get("hyperparameters") or {})
    if chosen:
        others = {name: value for name, value in others.items() if name not in LENGTHS} | chosen
    if others:
        spec["hyperparameters"] = others
    body["method"] = {"type": kind, kind: spec} if spec else {"type": kind}


def continued_config(job: Mapping[str, Any], checkpoint: str) -> dict[str, Any]:
    """Return the fields of a job that goes on from a checkpoint of another, with its images and settings."""
    names = [*TransferConfig.model_fields, *sorted(OF_SERVICE)]
    config = {name: job[name] for name in names if job.get(name) is not None} | {"model": checkpoint}
    kind = config["method"]["type"]
    hyperparameters = dict(config["method"][kind]["hyperparameters"])
    if hyperparameters.get("epochs") is not None:
        del hyperparameters["max_steps"]  # it came of them
    return config | {"method": {"type": kind, kind: {"hyperparameters": hyperparameters}}}


def told_of_methods() -> str:
    """Say which methods are installed, as the help of an option does."""
    default, *others = method_names()
    *some, last = (f"{name}: {label_of(name)}" for name in others)
    return f"{', '.join([f'{default} (default)', *some])} or {last}."


def _unknown(name: str, kind: str, known: list[str]) -> str:
    similar = get_close_matches(name, known, n=1)
    meant = f"; did you mean {similar[0]}?" if similar else ""
    return f"{name} is no field of a job and no hyper-parameter of {kind}{meant}"
