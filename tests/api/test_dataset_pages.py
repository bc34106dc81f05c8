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
from difftune_core.config.previews import ENTRY, FIRST, FOOTER, MAGIC, Entry

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


def fill(services: Services, settle: Callable[..., None], dataset_id: str, count: int) -> None:
    """End a validation that found images of two classes, the last without a small picture, the first with a control."""
    pictures, entries, lines = b"", [], b""
    for place in range(count):
        image, control = (b"\x89PNG image %d" % place, b"\xff\xd8 control") if place < count - 1 else (b"", b"")
        control = control if place == 0 else b""
        entries.append(Entry(len(lines), len(pictures), len(image), len(pictures) + len(image), len(control)))
        pictures += image + control
        item = {"path": f"{place:03}.png", "class_name": "ab"[place * 2 // count], "width": 8, "height": 8}
        lines += json.dumps(item).encode() + b"\n"
    index = b"".join(ENTRY.pack(*entry) for entry in entries) + FIRST.pack(0) + FIRST.pack(count // 2)
    services.store.put_stream(f"{dataset_id}-items", [lines])
    services.store.put_stream(f"{dataset_id}-previews", [pictures, index, FOOTER.pack(MAGIC, count, 2)])
    keys = {"items_key": f"{dataset_id}-items", "previews_key": f"{dataset_id}-previews"}
    settle(dataset_id, **keys, class_names=["a", "b"], num_items=count)


def test_images_are_seen_small_page_by_page_and_by_class(
    browser: TestClient, services: Services, add_file: Callable[..., str], settle: Callable[..., None]
) -> None:
    page = f"/datasets/{add_file()}"
    fill(services, settle, page.rpartition("/")[2], 100)
    first = browser.get(page).text
    assert "1 to 60 of 100" in first
    assert first.count('loading="lazy"') == 60 + 1, "the images, and the one control"
    assert f'src="..{page}/previews/0?role=control"' in first
    assert "Images before" not in first
    second = browser.get(f"{page}?place=60").text
    assert ("061 to 100" in second, "61 to 100 of 100" in second, second.count("loading=")) == (False, True, 39)
    assert "060.png" in second
    assert "059.png" not in second
    assert "?place=0#images" in second
    assert "More images" not in second
    by_class = re.search(r"\?place=(\d+)#images\">b<", first)
    assert by_class is not None
    shown = browser.get(f"{page}?place={by_class[1]}").text
    assert "050.png" in shown
    assert "049.png" not in shown
    assert "099.png" in browser.get(f"{page}?place=5000").text, "beyond the end is the end"


def test_a_small_picture_is_kept_by_the_browser_and_shown_to_no_stranger(
    browser: TestClient,
    services: Services,
    add_file: Callable[..., str],
    settle: Callable[..., None],
    stranger: dict[str, str],
) -> None:
    place = f"/datasets/{add_file()}/previews"
    fill(services, settle, place.split("/")[2], 4)
    shown, control = browser.get(f"{place}/1"), browser.get(f"{place}/0?role=control")
    assert (shown.content, shown.headers["content-type"]) == (b"\x89PNG image 1", "image/png")
    assert (control.content, control.headers["content-type"]) == (b"\xff\xd8 control", "image/jpeg")
    assert shown.headers["cache-control"] == "private, max-age=86400, immutable"
    for none in ("1?role=control", "3", "4", "99999"):
        assert browser.get(f"{place}/{none}").status_code == 404, none
    assert browser.get(f"{place}/-1").status_code == 422
    browser.post("/login", data={"key": stranger["authorization"].removeprefix("Bearer ")})
    assert browser.get(f"{place}/1").status_code == 404


def test_a_data_set_whose_pictures_are_lost_or_unreadable_lists_its_images(
    browser: TestClient, services: Services, add_file: Callable[..., str], settle: Callable[..., None]
) -> None:
    for content in (None, b"", b"of another version"):
        dataset_id = add_file()
        fill(services, settle, dataset_id, 4)
        services.store.delete(f"{dataset_id}-previews")
        if content is not None:
            services.store.put_stream(f"{dataset_id}-previews", [content])
        shown = browser.get(f"/datasets/{dataset_id}").text
        assert "003.png" in shown
        assert "loading=" not in shown
        assert browser.get(f"/datasets/{dataset_id}/previews/0").status_code == 404


def test_a_data_set_is_deleted_only_by_who_means_it(browser: TestClient, ready: str, send_form: Send) -> None:
    page = f"/datasets/{ready}"
    assert send_form(page, f"{page}/delete").status_code == 422
    assert send_form(page, f"{page}/delete", sure="yes").headers["location"] == "../../datasets"
    assert browser.get(page).status_code == 404


def test_nobody_sees_the_data_sets_of_others(browser: TestClient, ready: str, stranger: dict[str, str]) -> None:
    browser.post("/login", data={"key": stranger["authorization"].removeprefix("Bearer ")})
    assert ready not in browser.get("/datasets").text
    assert browser.get(f"/datasets/{ready}").status_code == 404
