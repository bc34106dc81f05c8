"""An upload in parts as the script of the data sets' page sends it."""

from __future__ import annotations

from starlette.testclient import TestClient

from api.datasets.models import Dataset
from api.deps import Services
from tests.api.test_dataset_pages import token_of


def test_parts_become_a_data_set_with_its_settings(browser: TestClient, services: Services) -> None:
    token = token_of(browser)
    asked = {"filename": "a.zip", "bytes": 250_000, "purpose": "fine-tune", "on_bad_files": "skip", "splits": "train"}
    upload = browser.post(f"/uploads?token={token}", json=asked).json()["id"]
    parts = []
    for size in (150_000, 100_000):
        sent = browser.post(f"/uploads/{upload}/parts?token={token}", files={"data": b"z" * size})
        assert sent.status_code == 200, sent.text
        parts.append(sent.json()["id"])
    assert browser.get(f"/uploads/{upload}").json()["status"] == "pending", "a page that comes back goes on with it"
    made = browser.post(f"/uploads/{upload}/complete?token={token}", json={"part_ids": parts}).json()["file"]["id"]
    with services.database.read() as session:
        dataset = session.get_one(Dataset, made)
        assert (dataset.filename, dataset.bytes, dataset.settings.on_bad_files) == ("a.zip", 250_000, "skip")


def test_a_part_that_is_too_large_is_told_with_the_limit(browser: TestClient) -> None:
    token = token_of(browser)
    asked = {"filename": "a.zip", "bytes": 900_000, "purpose": "fine-tune"}
    upload = browser.post(f"/uploads?token={token}", json=asked).json()["id"]
    refused = browser.post(f"/uploads/{upload}/parts?token={token}", files={"data": b"z" * 250_000})
    assert refused.status_code == 413
    assert "200000" in refused.json()["detail"]


def test_it_needs_the_pages_token_and_ones_own_upload(browser: TestClient, stranger: dict[str, str]) -> None:
    token = token_of(browser)
    asked = {"filename": "a.zip", "bytes": 9, "purpose": "fine-tune"}
    assert browser.post("/uploads", json=asked).status_code == 403
    upload = browser.post(f"/uploads?token={token}", json=asked).json()["id"]
    for path in (f"/uploads/{upload}/parts", f"/uploads/{upload}/complete"):
        assert browser.post(path, json={}).status_code == 403
    browser.post("/login", data={"key": stranger["authorization"].removeprefix("Bearer ")})
    assert browser.get(f"/uploads/{upload}").status_code == 404
