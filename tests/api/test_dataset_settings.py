"""What a data set's owner says of it: by every way in which a data set is made, and shown again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.datasets.lifecycle import Finding, lock
from api.datasets.lifecycle import settle as settled
from api.datasets.models import Dataset
from api.deps import Services
from difftune_core.config.dataset import DatasetOptions, identity

Problem = Callable[..., dict[str, Any]]
DEFAULTS = {"on_bad_files": "refuse", "max_skipped_share": 0.1, "splits": "refuse"}
SAID = {"on_bad_files": "skip", "max_skipped_share": 0.25, "splits": "hold_out"}


def shown(client: TestClient, dataset_id: str) -> dict[str, Any]:
    found = client.get(f"/v1/datasets/{dataset_id}").json()
    return {name: found[name] for name in DEFAULTS}


def test_a_file_without_settings_refuses_bad_files_and_splits(client: TestClient, add_file: Callable[..., str]) -> None:
    assert shown(client, add_file()) == DEFAULTS


def test_a_form_sets_them(client: TestClient) -> None:
    form = {"purpose": "fine-tune", **{name: str(value) for name, value in SAID.items()}}
    made = client.post("/v1/files", files={"file": ("a.zip", b"PK")}, data=form)
    assert shown(client, made.json()["id"]) == SAID


def test_an_upload_in_parts_sets_them(client: TestClient) -> None:
    body = {"filename": "a.zip", "purpose": "fine-tune", "bytes": 2, **SAID}
    upload = client.post("/v1/uploads", json=body).json()["id"]
    part = client.post(f"/v1/uploads/{upload}/parts", files={"data": b"PK"}).json()["id"]
    made = client.post(f"/v1/uploads/{upload}/complete", json={"part_ids": [part]}).json()
    assert shown(client, made["file"]["id"]) == SAID


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("on_bad_files", "ignore"),
        ("max_skipped_share", 1.5),
        ("max_skipped_share", " 0.1"),
        ("max_skipped_share", "0_1"),
        ("splits", "dev"),
    ],
)
def test_a_setting_that_is_none_is_named(client: TestClient, assert_problem: Problem, name: str, value: Any) -> None:
    form = {"purpose": "fine-tune", name: str(value)}
    answer = client.post("/v1/files", files={"file": ("a.zip", b"PK")}, data=form)
    assert_problem(answer, 422, "invalid_value", param=name)
    body = {"filename": "a.zip", "purpose": "fine-tune", "bytes": 2, name: value}
    answer = client.post("/v1/uploads", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == name


def test_lists_of_a_report_are_counted_and_bounded(
    client: TestClient, add_file: Callable[..., str], services: Services
) -> None:
    dataset_id = add_file()
    names = ("warnings", "skipped_files", "ignored_files")
    lists = {name: [{"path": str(n), "code": "x", "message": "y"} for n in range(150)] for name in names}
    report = {"ok": True, "errors": [], "num_items": 3, "ignored": 150, **lists}
    with services.database.write() as session:
        settled(session, lock(session, dataset_id), Finding("0" * 64, report))
    found = client.get(f"/v1/datasets/{dataset_id}").json()
    assert [found[f"num_{name}"] for name in ("warnings", "skipped", "ignored")] == [150, 150, 150]
    answered = client.get(f"/v1/datasets/{dataset_id}/report").json()
    assert [len(answered[name]) for name in names] == [100, 100, 100]


def test_one_file_read_in_two_ways_is_two_sets_of_images() -> None:
    ways = [{}, {"splits": "train"}, {"splits": "test"}, {"on_bad_files": "skip"}]
    found = {identity("f" * 64, DatasetOptions.model_validate(way)) for way in ways}
    assert len(found) == len(ways)
    assert Dataset(sha256="f" * 64, options=None).identity == "f" * 64
