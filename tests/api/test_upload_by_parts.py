"""An upload in parts as the script of the data sets' page sends it."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx2
from starlette.testclient import TestClient

from api.app import create_app
from api.datasets.models import Dataset
from api.deps import Services
from api.settings import Settings
from tests.api.test_dataset_pages import token_of
from tests.conftest import new_store
from tests.small_s3 import SmallS3


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


def test_parts_go_straight_to_a_store_that_speaks_s3(settings: Settings, token: str, small_server: SmallS3) -> None:
    store = Settings(data_dir=settings.data_dir, **new_store(small_server), database_url=settings.database_url)
    app = create_app(store)
    with TestClient(app) as browser:
        browser.post("/login", data={"key": token})
        shown, form_token = browser.get("/datasets"), token_of(browser)
        assert f'data-straight-to="{store.s3_endpoint_url}"' in shown.text
        assert f"connect-src 'self' {store.s3_endpoint_url};" in shown.headers["content-security-policy"]
        assert "connect-src 'self';" in browser.get("/").headers["content-security-policy"]
        asked = {"filename": "a.zip", "bytes": 250_000, "purpose": "fine-tune"}
        upload = browser.post(f"/uploads?token={form_token}", json=asked).json()["id"]
        path, parts = f"/uploads/{upload}/parts", []
        for size in (150_000, 100_000):
            link = browser.post(f"{path}/presign?token={form_token}", json={"bytes": size}).json()
            again = browser.post(f"{path}/{link['id']}/presign?token={form_token}").json()
            assert (again["id"], urlsplit(again["url"]).netloc) == (link["id"], urlsplit(store.s3_endpoint_url).netloc)
            assert httpx2.put(again["url"], content=b"z" * size).status_code == 200
            parts.append(link["id"])
        done = browser.post(f"/uploads/{upload}/complete?token={form_token}", json={"part_ids": parts})
        assert done.json()["file"]["bytes"] == 250_000
    app.state.services.database.close()


def test_a_folder_as_store_has_no_address_of_its_own(browser: TestClient) -> None:
    shown = browser.get("/datasets")
    assert 'data-straight-to=""' in shown.text
    assert "connect-src 'self';" in shown.headers["content-security-policy"]


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
    for path in ("parts", "parts/presign", "parts/part_none/presign", "complete"):
        assert browser.post(f"/uploads/{upload}/{path}", json={}).status_code == 403
    browser.post("/login", data={"key": stranger["authorization"].removeprefix("Bearer ")})
    assert browser.get(f"/uploads/{upload}").status_code == 404
