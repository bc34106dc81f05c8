"""Every request schema, with every value wrong once: refused with the field's name, never a fault of ours."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.api.walking import Bodies, operations

FLOOR_BODIES, FLOOR_SCHEMAS = 600, 8


def test_whatever_is_wrong_in_a_body_is_refused_by_its_name(app: FastAPI, client: TestClient) -> None:
    bodies, walked, schemas = Bodies(app), 0, 0
    for operation in operations(app):
        if operation.body is None:
            continue
        schemas += 1
        for path, body in bodies.wrong(operation.body):
            answer = client.request(operation.method, operation.url, json=body)
            told = (operation.path, path, body, answer.text[:500])
            assert answer.status_code == 422, told
            named = {(fault.get("pointer") or "#").removeprefix("#") for fault in answer.json().get("errors", [])}
            pointer = "".join(f"/{step}" for step in path)
            assert not path or any(_is_near(name, pointer) for name in named), told
            walked += 1
    assert walked >= FLOOR_BODIES
    assert schemas >= FLOOR_SCHEMAS


def _is_near(name: str, pointer: str) -> bool:
    """Itself, what is in it, or what it is in: of a union no member may fit."""
    return bool(name) and (f"{pointer}/".startswith(f"{name}/") or name.startswith(f"{pointer}/"))


@pytest.mark.parametrize("interval", [[], [0.0], [0.0, 1.0, 1.0], [0.0, None], None, "0", {}])
@pytest.mark.parametrize("path", ["fine_tuning/jobs", "comparisons", "analyses"])
def test_a_pair_that_is_none_is_named(client: TestClient, path: str, interval: Any) -> None:
    body = {"model": "tiny-dit", "training_file": "ds_x", "evaluation": {"guidance_interval": interval}}
    answer = client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 422
    if path != "analyses":
        assert "#/evaluation/guidance_interval" in answer.text


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        (("method", "diff_tuning", "hyperparameters", "lr"), "Did you mean 'learning_rate'?"),
        (("evaluation", "num_image"), "Did you mean 'num_images'?"),
        (("training_files",), "Did you mean 'training_file'?"),
        (("tau",), "Did you mean 'method.diff_tuning.hyperparameters.tau'?"),
        (("nobody_reads_this",), None),
    ],
)
def test_an_unknown_field_is_told_what_was_probably_meant(
    client: TestClient, field: tuple[str, ...], hint: str | None
) -> None:
    body: dict[str, Any] = {"model": "tiny-dit", "training_file": "ds_x", "method": {"type": "diff_tuning"}}
    inner = body
    for step in field[:-1]:
        inner = inner.setdefault(step, {})
    inner[field[-1]] = 1
    fault = client.post("/v1/fine_tuning/jobs", json=body).json()["errors"][0]
    assert fault["code"] == "unknown_field"
    assert fault["pointer"] == "#/" + "/".join(field)
    told = "Extra inputs are not permitted"
    assert fault["detail"] == (f"{told}. {hint}" if hint else told)


def test_the_message_names_three_faults_and_the_list_twenty(client: TestClient) -> None:
    names = [f"unknown_{number:02}" for number in range(25)]
    body = {"filename": "a.zip", "bytes": 1, "mime_type": "application/zip", "purpose": "fine-tune"}
    answer = client.post("/v1/uploads", json={**body, **dict.fromkeys(names, 1)}).json()
    assert [name in answer["detail"] for name in names[:5]] == [True, True, True, False, False]
    assert [fault["pointer"] for fault in answer["errors"]] == [f"#/{name}" for name in names[:20]]
