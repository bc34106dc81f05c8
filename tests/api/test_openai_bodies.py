"""Values that OpenAI documents, and names that deceive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic_core import PydanticCustomError
from starlette.testclient import TestClient

from api.jobs.openai import refuse_legacy, without_auto

JOBS = "/v1/fine_tuning/jobs"
AUTO = {"batch_size": "auto", "n_epochs": "auto", "learning_rate_multiplier": "auto"}


@pytest.mark.parametrize(
    "said",
    [
        {"integrations": []},
        {"integrations": None},
        {"hyperparameters": AUTO},
        {"method": {"type": "supervised", "supervised": {"hyperparameters": AUTO}}},
    ],
)
def test_what_openai_documents_and_says_nothing_is_taken(add_job: Callable[..., Any], said: dict[str, Any]) -> None:
    job = add_job(**said)
    assert job["method"][job["method"]["type"]]["hyperparameters"]["batch_size"] == 16  # the card's
    assert job["integrations"] is None


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations"),
        ({"hyperparameters": {"n_epochs": 3}}, "hyperparameters"),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}},
            "method.supervised.hyperparameters.n_epochs",
        ),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparameters": {"max_steps": "auto"}}}},
            "method.supervised.hyperparameters.max_steps",
        ),
    ],
)
def test_what_would_change_something_is_refused(
    client: TestClient, ready: str, said: dict[str, Any], param: str
) -> None:
    answer = client.post(JOBS, json={"model": "tiny-dit", "training_file": ready, **said})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)


@pytest.mark.parametrize("character", ["\u202e", "\u2028", "\u2066", "\u200f", "\x85", "\n"])
def test_a_file_name_that_deceives_is_refused(client: TestClient, character: str) -> None:
    name = f"a{character}gpj.zip"
    body = {"filename": name, "bytes": 3, "purpose": "fine-tune"}
    answer = client.post("/v1/uploads", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "filename")
    if ord(character) > 0xFF:
        form = {"files": {"file": (name, b"zip")}, "data": {"purpose": "fine-tune"}}
        answer = client.post("/v1/files", **form)
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "file")


def test_other_scripts_are_names_too(client: TestClient) -> None:
    for name in ("données.zip", "写真 1.zip", "صور.zip", "👩‍🎨.zip"):
        assert (
            client.post("/v1/uploads", json={"filename": name, "bytes": 3, "purpose": "fine-tune"}).status_code == 200
        )


def test_only_openai_s_own_hyperparameters_may_be_auto() -> None:
    """Of ours `auto` is a value, and wrong."""
    given = {"n_epochs": "auto", "batch_size": 4, "tau": "auto"}
    body = {"method": {"supervised": {"hyperparameters": given}}}
    assert without_auto(body) == {"method": {"supervised": {"hyperparameters": {"batch_size": 4, "tau": "auto"}}}}
    refuse_legacy({"learning_rate_multiplier": "auto"})
    for wrong in ({"tau": "auto"}, {"n_epochs": 3}, "auto"):
        with pytest.raises(PydanticCustomError):
            refuse_legacy(wrong)
