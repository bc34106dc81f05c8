"""Captions and tables in the forms they come in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.core.data.verdicts import judge


def pictures(build: Any, count: int = 3, folder: str = "") -> dict[str, bytes]:
    return {f"{folder}{i}.png": build.picture(i) for i in range(count)}


def rows(column: str = "text", name: str = "file_name") -> list[dict[str, str]]:
    return [{name: f"{i}.png", column: f"a cone {i}"} for i in range(3)]


def lines(table: list[dict[str, str]]) -> bytes:
    return "\n".join(map(json.dumps, table)).encode()


@pytest.mark.parametrize(
    "data",
    [
        "a cone".encode("utf-8-sig"),
        "a cone".encode("utf-16"),
        b"\xfe\xff" + "a cone\r\n".encode("utf-16-be"),
        "\u200ba  cone\u200b\n".encode(),
        b"  a\ncone ",
    ],
)
@pytest.mark.parametrize("ending", ["txt", "caption", "png.txt"])
def test_a_caption_is_what_can_be_seen(tmp_path: Path, build: Any, recorder: Any, data: bytes, ending: str) -> None:
    files = {**pictures(build), **{f"{i}.{ending}": data for i in range(3)}}
    found = judge(build.zip(tmp_path / "a.zip", files), recorder)
    assert [item["caption"] for item in found.items] == ["a cone"] * 3


UNSEEN = [
    "",
    " \n\t",
    "\ufeff",
    "\u200b\u200d\u2060",
    "\u00a0\u3000",
    "\u00ad",
    "a\0 \0c\0",
    "\u3164",
    "\u2800",
    "\ufe0f",
]


@pytest.mark.parametrize("text", UNSEEN)
@pytest.mark.parametrize("form", ["stems", "table"])
def test_nothing_visible_is_no_caption(tmp_path: Path, build: Any, recorder: Any, text: str, form: str) -> None:
    table = [{**row, "text": text if i == 1 else "seen"} for i, row in enumerate(rows())]
    texts = {f"{i}.txt": (text if i == 1 else "seen").encode() for i in range(3)}
    files = texts if form == "stems" else {"metadata.jsonl": lines(table)}
    found = judge(build.zip(tmp_path / "a.zip", {**pictures(build), **files}), recorder)
    assert found.codes() == {"1.png" if form == "stems" else "metadata.jsonl:2": "missing_caption"}


@pytest.mark.parametrize("text", ["🜂", "é", "…", "👩\u200d🚀", "犬"])
def test_any_script_and_sign_is_visible(tmp_path: Path, build: Any, recorder: Any, text: str) -> None:
    files = {**pictures(build), **{f"{i}.txt": text.encode() for i in range(3)}}
    found = judge(build.zip(tmp_path / "a.zip", files), recorder)
    assert [item["caption"] for item in found.items] == [text] * 3


@pytest.mark.parametrize("data", ["赤い円錐".encode("cp932"), "a cone".encode("utf-16-le"), "é".encode("latin-1")])
def test_text_of_other_encodings_is_no_caption_and_says_so(
    tmp_path: Path, build: Any, recorder: Any, data: bytes
) -> None:
    files = {**pictures(build), **{f"{i}.txt": data for i in range(3)}}
    found = judge(build.zip(tmp_path / "a.zip", files), recorder)
    assert set(found.codes().values()) == {"missing_caption"}
    assert "UTF-8" in found.message


@pytest.mark.parametrize("stem", ["photo v1.0 {}", "St. Ives {}", "p{}.final", "a.b.c{}", ".hidden{}", "v{}.control.2"])
def test_names_may_hold_dots(tmp_path: Path, build: Any, recorder: Any, stem: str) -> None:
    files: dict[str, bytes] = {}
    for i in range(3):
        files |= {f"{stem.format(i)}.PNG": build.picture(i), f"{stem.format(i)}.txt": b"a cone"}
    found = judge(build.zip(tmp_path / "a.zip", files), recorder)
    assert (found.codes(), len(found.items)) == ({}, 3)


CSV = "file_name,text\n" + "".join(f'{i}.png,"a cone {i}"\n' for i in range(3))
TABLES: dict[str, bytes] = {
    "metadata.jsonl": lines(rows("prompt")),
    "METADATA.JSONL": lines(rows("Caption", "File_Name")),
    "metadata.csv": CSV.encode("utf-8-sig"),
    "Metadata.csv": CSV.replace(",", ";").encode(),
    "metadata.json": json.dumps(rows()).encode(),
    "metadata.JSON": json.dumps({row["file_name"]: row["text"] for row in rows()}).encode(),
}


@pytest.mark.parametrize("name", list(TABLES))
def test_tables_are_read_in_many_forms(tmp_path: Path, build: Any, recorder: Any, name: str) -> None:
    found = judge(build.zip(tmp_path / "a.zip", {**pictures(build), name: TABLES[name]}), recorder)
    assert found.codes() == {}
    assert [item["caption"] for item in found.items] == [f"a cone {i}" for i in range(3)]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "json"])
def test_a_missing_column_is_named_with_those_that_are_there(
    tmp_path: Path, build: Any, recorder: Any, ending: str
) -> None:
    table = rows("description")
    data = {
        "jsonl": lines(table),
        "json": json.dumps(table).encode(),
        "csv": b"file_name,description\n0.png,x\n1.png,y\n2.png,z\n",
    }[ending]
    found = judge(build.zip(tmp_path / "a.zip", {**pictures(build), f"metadata.{ending}": data}), recorder)
    assert found.codes() == {f"metadata.{ending}": "missing_column"}
    assert all(word in found.message for word in ("text", "caption", "prompt", "its columns: file_name, description"))


def test_a_table_without_images_is_a_stray_file(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = {**build.good(), "metadata.csv": b"id,width\n1,2\n", "metadata.parquet": b"PAR1"}
    found = judge(build.zip(tmp_path / "a.zip", files), recorder)
    assert found.codes() == {}
    assert found.warnings == {"metadata.csv": "unread_table", "metadata.parquet": "unread_table"}


def test_the_first_of_several_columns_and_tables_is_read(tmp_path: Path, build: Any, recorder: Any) -> None:
    table = [{**row, "caption": "other"} for row in rows()]
    files = {**pictures(build), "metadata.jsonl": lines(table), "metadata.csv": b"file_name,text\n0.png,x\n"}
    found = judge(build.zip(tmp_path / "a.zip", files), recorder)
    assert found.items[0]["caption"] == "a cone 0"
    assert found.warnings == {"metadata.jsonl": "several_captions"}
    assert found.codes("ignored_files") == {"metadata.csv": "unread_table"}


def test_the_layout_of_fill50k(tmp_path: Path, build: Any, recorder: Any) -> None:
    table = [{"source": f"source/{i}.png", "target": f"target/{i}.png", "prompt": f"circle {i}"} for i in range(3)]
    pairs = {
        f"{side}/{i}.png": build.picture(i + 10 * (side == "source")) for side in ("source", "target") for i in range(3)
    }
    found = judge(build.zip(tmp_path / "a.zip", {**pairs, "prompt.json": lines(table)}), recorder)
    assert found.codes() == {}
    assert [(item["path"], item["control"]) for item in found.items] == [
        (f"target/{i}.png", f"source/{i}.png") for i in range(3)
    ]
    assert judge(build.zip(tmp_path / "b.zip", pairs), recorder).codes() == {"source": "control_folders"}


def test_a_folder_of_control_images(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = pictures(build, folder="image/") | {f"image/{i}.txt": b"a cone" for i in range(3)}
    files |= {f"conditioning/{i}.png": build.picture(10 + i) for i in range(3)}
    found = judge(build.zip(tmp_path / "a.zip", files), recorder)
    assert found.codes() == {}
    assert [item["control"] for item in found.items] == [f"conditioning/{i}.png" for i in range(3)]


def test_a_control_image_that_could_be_of_two_is_nobody_s(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = pictures(build, folder="a/") | pictures(build, folder="b/")
    files |= {f"{folder}/{i}.txt": b"a cone" for i in range(3) for folder in "ab"}
    found = judge(build.zip(tmp_path / "a.zip", {**files, "conditioning/0.png": build.picture(10)}), recorder)
    assert "conditioning/0.png" in found.codes()


def test_an_image_that_has_a_control_of_its_own_is_nobody_s_control(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = pictures(build, folder="image/") | {f"image/{i}.txt": b"a cone" for i in range(3)}
    files |= {"conditioning/0.png": build.picture(10), "conditioning/0.control.png": build.picture(11)}
    found = judge(build.zip(tmp_path / "a.zip", files), recorder)
    assert "conditioning/0.png" in found.codes()
    assert not [item for item in found.items if item.get("control")]


CSV_ROWS = "".join(f"{i}.png,a cone {i},b\n" for i in range(3))


@pytest.mark.parametrize(
    ("name", "data", "column"),
    [
        ("metadata.csv", "file_name,Text,text\n" + CSV_ROWS, "text"),
        ("metadata.csv", "file_name,file_name ,text\n" + CSV_ROWS, "file_name"),
        ("metadata.jsonl", '{"file_name": "0.png", "text": "a", "text": "b"}\n', "text"),
        ("metadata.jsonl", '{"file_name": "0.png", "Text": "a", "text": "b"}\n', "text"),
        ("metadata.json", '[{"file_name": "0.png", "text": "a", "text": "b"}]', "text"),
    ],
)
def test_of_two_columns_of_one_name_none_is_chosen(
    tmp_path: Path, build: Any, recorder: Any, *, name: str, data: str, column: str
) -> None:
    found = judge(build.zip(tmp_path / "a.zip", {**pictures(build), name: data.encode()}), recorder)
    said = [error["message"] for error in found.report["errors"] if error["code"] == "unreadable_row"]
    assert any(f"there are two columns {column!r}" in message for message in said)
    assert not found.items


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("metadata.csv", "file_name,text\n0.png,caf\u00e9\n1.png,a\n2.png,b\n".encode("latin-1"), "UTF-8"),
        ("metadata.json", b"[" * 100_000, "JSON"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_with_its_reason(
    tmp_path: Path, build: Any, recorder: Any, *, name: str, data: bytes, why: str
) -> None:
    found = judge(build.zip(tmp_path / "a.zip", {**pictures(build), name: data}), recorder)
    errors = {error["path"].partition(":")[0]: error["message"] for error in found.report["errors"]}
    assert why in errors[name]
    strays = judge(build.zip(tmp_path / "b.zip", {**build.good(), name: data}), recorder)
    assert strays.codes() == {}
    assert any(why in warning["message"] for warning in strays.report["warnings"] if warning["path"] == name)


def test_a_quote_that_is_never_closed_is_said_so(tmp_path: Path, build: Any, recorder: Any) -> None:
    table = b'file_name,text\n0.png,"never closed\n1.png,a\n2.png,b\n'
    found = judge(build.zip(tmp_path / "a.zip", {**pictures(build), "metadata.csv": table}), recorder)
    assert any("CSV" in error["message"] for error in found.report["errors"])


def test_a_caption_may_have_a_space_before_its_quotes(tmp_path: Path, build: Any, recorder: Any) -> None:
    table = "file_name, text\n" + "".join(f'{i}.png, "a cone, {i}"\n' for i in range(3))
    found = judge(build.zip(tmp_path / "a.zip", {**pictures(build), "metadata.csv": table.encode()}), recorder)
    assert [item["caption"] for item in found.items] == [f"a cone, {i}" for i in range(3)]


def test_one_row_without_a_file_does_not_hide_the_table(tmp_path: Path, build: Any, recorder: Any) -> None:
    for name, table in (
        ("metadata.csv", "file_name,text\n,none\n" + "".join(f"{i}.png,a\n" for i in range(3))),
        ("metadata.json", json.dumps([{"text": "none"}, *rows()])),
    ):
        found = judge(build.zip(tmp_path / "a.zip", {**pictures(build), name: table.encode()}), recorder)
        assert list(found.codes().values()) == ["unreadable_row"]
        assert found.codes().keys() < {f"{name}:1", f"{name}:2"}
