from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from difftune_core.data.archive import open_archive
from difftune_core.data.members import RefusedError


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "folder"])
def test_the_same_files_come_out_of_every_packaging(tmp_path: Path, build: Any, kind: str) -> None:
    files = build.good()
    with open_archive(build.packed(kind, tmp_path, files)) as archive:
        assert {member.path: archive.read(member) for member in archive} == files
        assert archive.refused == []
        assert archive.entries == len(files)


def test_members_can_be_read_in_any_order_from_a_gzipped_tar(tmp_path: Path, build: Any) -> None:
    files = build.good()
    with open_archive(build.tar(tmp_path / "a.tar.gz", files)) as archive:
        assert [archive.read(m) for m in reversed(archive.members)] == list(reversed(files.values()))


@pytest.mark.parametrize(
    "name",
    ["../x.png", "a/../../x.png", "/etc/x.png", "C:/x.png", "a\\..\\x.png", "a/\x1b[2J.png", "a/\u202egnp.exe",
     "a/" + "x" * 300 + ".png", "/".join(["d" * 100] * 11) + "/x.png", ".."],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_unsafe_names_are_refused_and_the_rest_stays(tmp_path: Path, build: Any, kind: str, name: str) -> None:
    path = build.packed(kind, tmp_path, {name: build.picture(), **build.good()})
    codes = build.verdicts(path)
    assert list(codes.values()) == ["unsafe_path"]
    assert all(c.isprintable() for c in next(iter(codes)))
    assert [p.name for p in tmp_path.iterdir()] == [f"set.{kind}"]


def test_a_name_that_is_no_text_is_refused(tmp_path: Path, build: Any) -> None:
    path = build.tar(tmp_path / "a.tar", {"cat/\udcff.png": build.picture()})
    assert build.verdicts(path) == {"cat/\\udcff.png": "unsafe_path"}


def test_a_folder_whose_name_climbs_out_is_refused(tmp_path: Path, build: Any) -> None:
    assert build.verdicts(build.zip(tmp_path / "a.zip", {"../evil/": b""})) == {"../evil/": "unsafe_path"}


@pytest.mark.parametrize("second", ["cat//1.png", "./cat/1.png", "cat\\1.png"])
def test_two_spellings_of_one_path_are_one_file(tmp_path: Path, build: Any, second: str) -> None:
    path = build.zip(tmp_path / "a.zip", {"cat/1.png": build.picture(1), second: build.picture(2)})
    assert list(build.verdicts(path).values()) == ["duplicate_name"]


@pytest.mark.parametrize("second", ["cat/1.PNG", "CAT/1.png", "cat /1.png"])
def test_letter_case_and_spaces_tell_files_apart(tmp_path: Path, build: Any, second: str) -> None:
    path = build.zip(tmp_path / "a.zip", {"cat/1.png": build.picture(1), second: build.picture(2)})
    assert build.verdicts(path) == {}


def test_both_unicode_forms_of_a_name_are_one(tmp_path: Path, build: Any) -> None:
    path = build.tar(tmp_path / "a.tar", {"caf\u00e9/1.png": build.picture(1), "cafe\u0301/1.png": build.picture(2)})
    with open_archive(path) as archive:
        assert [m.path for m in archive] == ["caf\u00e9/1.png"]
        assert [r.code for r in archive.refused] == ["duplicate_name"]


def test_equal_names_are_refused_once(tmp_path: Path, build: Any) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cat/1.png", build.picture(1))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("cat/1.png", build.picture(2))
    assert build.verdicts(tmp_path / "a.zip") == {"cat/1.png": "duplicate_name"}


def test_what_an_operating_system_leaves_is_ignored_and_counted(tmp_path: Path, build: Any) -> None:
    junk = {"__MACOSX/cat/._1.png": b"x", "cat/.DS_Store": b"x", "cat/Thumbs.db": b"x", "cat/._2.png": b"x"}
    with open_archive(build.zip(tmp_path / "a.zip", {**build.good(), **junk})) as archive:
        assert (len(archive.junk), len(archive.members), archive.refused) == (4, 4, [])


def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, build: Any) -> None:
    kinds = {"sym": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE}
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in kinds.items():
            info = tarfile.TarInfo(f"cat/{name}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert build.verdicts(tmp_path / "a.tar") == {f"cat/{name}.png": "not_a_regular_file" for name in kinds}


def test_a_link_in_a_zip_is_refused(tmp_path: Path, build: Any) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("cat/link.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert build.verdicts(tmp_path / "a.zip") == {"cat/link.png": "not_a_regular_file"}


def test_links_in_a_folder_are_not_followed(tmp_path: Path, build: Any) -> None:
    outside = build.folder(tmp_path / "outside", build.good())
    folder = build.folder(tmp_path / "set", build.good(each=1))
    (folder / "cat" / "link.png").symlink_to(outside / "cat" / "0.png")
    (folder / "linked").symlink_to(outside)
    os.mkfifo(folder / "pipe.png")
    assert build.verdicts(folder) == dict.fromkeys(["cat/link.png", "linked", "pipe.png"], "not_a_regular_file")


def test_an_encrypted_entry_is_refused(tmp_path: Path, build: Any) -> None:
    data = bytearray(build.zip(tmp_path / "a.zip", {"cat/1.png": build.picture()}).read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + at] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert build.verdicts(tmp_path / "a.zip") == {"cat/1.png": "encrypted_file"}


def test_another_compression_is_refused(tmp_path: Path, build: Any) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("cat/1.png", build.picture())
    assert build.verdicts(tmp_path / "a.zip") == {"cat/1.png": "unsupported_compression"}


def test_a_file_that_becomes_a_link_after_it_was_listed_is_not_followed(tmp_path: Path, build: Any) -> None:
    (tmp_path / "secret").write_bytes(build.picture())
    folder = build.folder(tmp_path / "set", build.good(each=1))
    with open_archive(folder) as archive:
        member = next(iter(archive))
        (folder / member.path).unlink()
        (folder / member.path).symlink_to(tmp_path / "secret")
        with pytest.raises(RefusedError) as caught:
            archive.read(member)
    assert caught.value.code == "damaged_file"


def test_a_zip_whose_entries_have_comments_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name, comment in (("a.png", b"by hand"), ("b.png", b""), ("c.png", b"x" * 500)):
            info = zipfile.ZipInfo(name)
            info.comment = comment
            file.writestr(info, name)
    with open_archive(tmp_path / "a.zip") as archive:
        assert [(member.path, archive.read(member)) for member in archive.members] == [
            (name, name.encode()) for name in ("a.png", "b.png", "c.png")
        ]


@pytest.mark.parametrize(("kind", "costs_nothing"), [("zip", True), ("tar", True), ("tar.gz", False)])
def test_going_back_costs_nothing_but_in_what_is_gzipped(
    tmp_path: Path, build: Any, kind: str, *, costs_nothing: bool
) -> None:
    with open_archive(build.packed(kind, tmp_path, build.good())) as archive:
        assert archive.seeks is costs_nothing
