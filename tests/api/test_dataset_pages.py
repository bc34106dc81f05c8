"""Data sets in the dashboard: upload by a form, what validation found, the images; with hostile names and captions."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

from starlette.testclient import TestClient

from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.deps import Services

Send = Callable[..., Any]
HOSTILE = "\"><script>alert(1)</script>'&.zip"


def token_of(browser: TestClient) -> str:
    found = re.search(r'action="./datasets/upload\?token=(\w+)"', browser.get("/datasets").text)
    assert found is not None
    return found[1]


def upload(browser: TestClient, content: bytes, name: str = "flowers.zip", **fields: str) -> Any:
    fields = {"purpose": "fine-tune", **fields}
    return browser.post(
        f"/datasets/upload?token={token_of(browser)}",
        data=fields,
        files={"file": (name, content)},
        follow_redirects=False,
    )


def test_a_form_uploads_a_data_set_as_the_api_does(browser: TestClient, services: Services) -> None:
    answer = upload(browser, b"z" * 250_000, on_bad_files="skip")
    assert answer.status_code == 303
    dataset_id = answer.headers["location"].rpartition("/")[2]
    with services.database.read() as session:
        dataset = session.get_one(Dataset, dataset_id)
        assert (dataset.filename, dataset.bytes, dataset.settings.on_bad_files) == ("flowers.zip", 250_000, "skip")
    assert "Every image is opened once" in browser.get(f"/datasets/{dataset_id}").text


def test_what_the_api_refuses_is_told_beside_the_form(browser: TestClient) -> None:
    for content, said in ((b"", "is empty"), (b"z" * 400_000, "300000")):
        answer = upload(browser, content)
        assert answer.status_code in {413, 422}
        assert said in answer.text
        assert "No data set" not in answer.text


def test_an_upload_needs_the_pages_token(browser: TestClient) -> None:
    for query in ("", "?token=0"):
        answer = browser.post(f"/datasets/upload{query}", data={"purpose": "fine-tune"}, files={"file": b"zip"})
        assert answer.status_code == 403
    in_body = browser.post("/datasets/upload", data={"token": token_of(browser), "purpose": "x" * 2_000_000})
    assert in_body.status_code in {403, 413}, "its body is not read for it"
    assert "None yet" in browser.get("/datasets").text


def test_bad_files_and_warnings_are_listed_and_nothing_hostile_runs(
    browser: TestClient, add_file: Callable[..., str], settle: Callable[..., None]
) -> None:
    dataset_id = add_file(filename=HOSTILE)
    bad = {"path": f"rose/{HOSTILE}", "code": "not_an_image", "message": "is no image", "severity": "error"}
    found = {"errors": [bad], "num_errors": 250, "warnings": [], "class_counts": {HOSTILE: 3}}
    error = {"error_code": "no_images", "error_message": HOSTILE}
    settle(dataset_id, DatasetStatus.INVALID, report=found, class_names=[HOSTILE], **error)
    for page in ("/datasets", f"/datasets/{dataset_id}"):
        shown = browser.get(page).text
        assert "<script>alert" not in shown
        assert "&lt;script&gt;alert" in shown
    assert "Files that cannot be used (250)" in shown
    assert "The first 1." in shown
    assert "is no image" in shown


def test_images_are_shown_by_class_with_captions_page_by_page(
    browser: TestClient, services: Services, add_file: Callable[..., str], settle: Callable[..., None]
) -> None:
    dataset_id = add_file()
    rows = [{"path": f"{n:03}.png", "class_name": "ab"[n // 50], "width": 8, "height": 8} for n in range(100)]
    rows[0]["caption"] = HOSTILE
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    services.store.put_stream("items", io.BytesIO(lines.encode()))
    settle(dataset_id, items_key="items", report={"class_counts": {"a": 50, "b": 50}})
    first = browser.get(f"/datasets/{dataset_id}").text
    assert first.index("<h3>a</h3>") < first.index("000.png") < first.index("<h3>b</h3>") < first.index("059.png")
    assert "<script>alert" not in first
    assert "060.png" not in first
    after = re.search(r"\?after=(item_\d+)", first)
    assert after is not None
    second = browser.get(f"/datasets/{dataset_id}?after={after[1]}").text
    assert "060.png" in second
    assert "More images" not in second


def test_a_data_set_is_deleted_only_by_who_means_it(browser: TestClient, ready: str, send_form: Send) -> None:
    page = f"/datasets/{ready}"
    assert send_form(page, f"{page}/delete").status_code == 422
    assert send_form(page, f"{page}/delete", sure="yes").headers["location"] == "../../datasets"
    assert browser.get(page).status_code == 404


def test_nobody_sees_the_data_sets_of_others(browser: TestClient, ready: str, stranger: dict[str, str]) -> None:
    browser.post("/login", data={"key": stranger["authorization"].removeprefix("Bearer ")})
    assert ready not in browser.get("/datasets").text
    assert browser.get(f"/datasets/{ready}").status_code == 404
