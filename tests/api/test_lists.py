"""Every list that has pages: whole whatever the pages' size, in both orders, and it says truly whether more follows."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.datasets.models import Dataset
from api.deps import Services
from api.jobs.models import Checkpoint, Metric
from api.logs.models import LogChunk
from api.subjects.models import ResultFile
from tests.api.walking import Operation, operations

JOBS = "/v1/fine_tuning/jobs"
FILE = "file_0000000000000000000000000"
FLOOR_LISTS = 12


@pytest.fixture
def places(
    client: TestClient, ready: str, *, add_job: Any, add_file: Any, compare: Any, services: Services, rows: Any
) -> dict[str, str]:
    """At least three of everything; by the name of a parameter in a path the id of what has them."""
    job_id: str = [add_job()["id"] for _ in range(3)][-1]
    key = f"datasets/{ready}/items.jsonl"
    services.store.put_stream(key, [json.dumps({"path": f"{n}.png", "class": "0"}).encode() + b"\n" for n in range(3)])
    upload = client.post("/v1/uploads", json={"filename": "a", "bytes": 3, "purpose": "fine-tune"}).json()["id"]
    for seed in range(3):
        add_file(bytes([seed]))
        compare(seeds=[seed])
        client.post("/v1/retention_sets", json={"model": "tiny-dit", "seed": seed})
        client.post(f"/v1/uploads/{upload}/parts", files={"data": b"x"})
        client.post("/v1/images/generations", json={"model": "tiny-dit", "class_label": seed, "wait_s": 0})

    def fill(session: Session) -> None:
        dataset = session.get_one(Dataset, ready)
        dataset.items_key, dataset.sha256 = key, "a" * 64
        for n in range(3):
            saved = {"step": n, "name": f"step-{n}", "fence": 1, "files": []}
            session.add(Checkpoint(id=f"ckpt_{n}", tenant_id="default", job_id=job_id, created_at=1.0, **saved))
            session.add(Metric(job_id=job_id, name="train_loss", step=n, value=1.0, created_at=1.0))
            drawn = {"filename": "a.png", "key": f"k{n}", "bytes": 1, "sha256": "0" * 64, "content_type": "image/png"}
            row = {"subject_id": job_id, "kind": "sample", "step": n, "created_at": 1.0}
            session.add(ResultFile(id=f"{FILE}{n}", tenant_id="default", **row, **drawn))
            session.add(LogChunk(job_id=job_id, attempt=1, number=n, text="x", created_at=1.0))

    rows(fill)
    for _ in range(3):
        body = {"type": "chain_of_forgetting", "checkpoints": ["ckpt_0", "ckpt_1"]}
        assert client.post("/v1/analyses", json=body).status_code == 200
    return {"job_id": job_id, "dataset_id": ready, "upload_id": upload}


def parameters(operation: Operation) -> set[str]:
    return {parameter["name"] for parameter in operation.document.get("parameters", ())}


def page_of(client: TestClient, url: str, **params: Any) -> dict[str, Any]:
    answer = client.get(url, params=params)
    assert answer.status_code == 200, (url, answer.text)
    found: dict[str, Any] = answer.json()
    ids = [row["id"] for row in found["data"]]
    assert (found["first_id"], found["last_id"]) == (ids[0], ids[-1]), url
    return found


def test_every_list_is_whole_in_pages_of_any_size(app: FastAPI, client: TestClient, places: dict[str, str]) -> None:
    lists = [operation for operation in operations(app) if "limit" in parameters(operation)]
    assert len(lists) >= FLOOR_LISTS
    for operation in lists:
        url = operation.path.format(**places)
        page = partial(page_of, client, url)
        whole = page(limit=100)["data"]
        assert len(whole) >= 3, url
        assert not page(limit=len(whole))["has_more"], f"{url}: all of them fill the page exactly"
        first = page(limit=len(whole) - 1)
        assert (first["data"], first["has_more"]) == (whole[:-1], True), url
        last = page(limit=1, after=first["last_id"])
        assert (last["data"], last["has_more"]) == (whole[-1:], False), url
        if "order" in parameters(operation):
            assert page(limit=100, order="asc")["data"] == page(limit=100, order="desc")["data"][::-1], url
