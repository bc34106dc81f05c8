from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from difftune_core.data.archive import Limits, open_archive
from difftune_core.data.tar_reader import _Bounded
from difftune_core.hooks import TaskError


def overlapping_zip(count: int) -> bytes:
    """`count` names whose local headers quote each other, all over one kernel of data (Fifield 2019, section 3)."""
    kernel = zlib.compress(bytes(1 << 20), 9)[2:-4]
    crc = zlib.crc32(bytes(1 << 20))
    common = struct.pack("<5H3L", 20, 0, 8, 0, 0, crc, len(kernel), 1 << 20)
    body, directory = b"", b""
    local = [b"PK\x03\x04" + common + struct.pack("<2H", 5, 0) + b"c/%03d" % i for i in range(count)]
    for i, header in enumerate(local):
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<5H2L", 5, 0, 0, 0, 0, 0, len(body))
        directory += b"c/%03d" % i
        body += header
    body += kernel
    return body + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(body), 0)


def test_overlapping_entries_are_refused(tmp_path: Path, build: Any) -> None:
    (tmp_path / "bomb.zip").write_bytes(overlapping_zip(50))
    codes = build.verdicts(tmp_path / "bomb.zip", Limits(max_ratio=2000))
    assert list(codes.values()).count("overlapping_entries") == 49


def test_a_file_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path: Path, build: Any) -> None:
    assert build.verdicts(build.zip(tmp_path / "a.zip", {"cat/1.png": bytes(4 << 20)})) == {
        "cat/1.png": "compression_ratio"
    }


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, build: Any) -> None:
    build.tar(tmp_path / "a.tar.gz", {"cat/1.png": bytes(40 << 20)})
    assert (tmp_path / "a.tar.gz").stat().st_size < 1 << 17
    with pytest.raises(TaskError, match=r"cat/1\.png unpacks to 41943040 bytes") as caught:
        build.verdicts(tmp_path / "a.tar.gz")
    assert (caught.value.code, caught.value.param) == ("archive_too_large", "cat/1.png")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "folder"])
def test_limits_hold_for_every_packaging(tmp_path: Path, build: Any, kind: str) -> None:
    path = build.packed(kind, tmp_path, build.good())
    sizes = [len(data) for data in build.good().values()]
    assert build.fatal(path, Limits(max_total_bytes=sum(sizes) - 1)) == "archive_too_large"
    assert set(build.verdicts(path, Limits(max_file_bytes=min(sizes) - 1)).values()) == {"file_too_large"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_too_many_entries(tmp_path: Path, build: Any, kind: str) -> None:
    assert build.fatal(build.packed(kind, tmp_path, build.good()), Limits(max_entries=3)) == "too_many_entries"


@pytest.mark.parametrize("inner", ["zip", "tar", "gz", "bz2"])
def test_archives_in_archives_are_not_opened(tmp_path: Path, build: Any, inner: str) -> None:
    contents = {
        "zip": build.zip(tmp_path / "i.zip", build.good()).read_bytes(),
        "tar": build.tar(tmp_path / "i.tar", build.good()).read_bytes(),
        "gz": gzip.compress(b"hello", mtime=0),
        "bz2": b"BZh91AY&SY",
    }
    assert build.verdicts(build.zip(tmp_path / "a.zip", {"cat/1.png": contents[inner]})) == {
        "cat/1.png": "nested_archive"
    }


def test_an_empty_file_is_refused(tmp_path: Path, build: Any) -> None:
    assert build.verdicts(build.zip(tmp_path / "a.zip", {"cat/1.png": b""})) == {"cat/1.png": "empty_file"}


def test_flipped_bytes_are_found(tmp_path: Path, build: Any) -> None:
    data = bytearray(build.zip(tmp_path / "a.zip", {"cat/1.png": build.picture()}).read_bytes())
    data[200] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    assert build.verdicts(tmp_path / "a.zip") == {"cat/1.png": "damaged_file"}


def test_a_size_that_lies_is_a_damaged_file(tmp_path: Path, build: Any) -> None:
    data = bytearray(build.zip(tmp_path / "a.zip", {"cat/1.png": build.picture()}).read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<L", 100)
    (tmp_path / "a.zip").write_bytes(data)
    assert build.verdicts(tmp_path / "a.zip") == {"cat/1.png": "damaged_file"}


def test_a_local_name_that_differs_from_the_directory_is_a_damaged_file(tmp_path: Path, build: Any) -> None:
    data = bytearray(build.zip(tmp_path / "a.zip", {"cat/1.png": build.picture()}).read_bytes())
    at = data.index(b"cat/1.png")
    data[at : at + 9] = b"dog/1.png"
    (tmp_path / "a.zip").write_bytes(data)
    assert build.verdicts(tmp_path / "a.zip") == {"cat/1.png": "damaged_file"}


@pytest.mark.parametrize(
    "content",
    [b"", b"text\n" * 100, b"\x89PNG\r\n\x1a\n" * 99, b"\x1f\x8b damaged gzip", gzip.compress(b"x", mtime=0)],
)
def test_what_is_no_archive_is_named_so(tmp_path: Path, build: Any, content: bytes) -> None:
    (tmp_path / "set.zip").write_bytes(content)
    assert build.fatal(tmp_path / "set.zip") == "not_an_archive"


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_cut_archive_is_damaged(tmp_path: Path, build: Any, kind: str) -> None:
    path = build.packed(kind, tmp_path, build.good())
    whole = path.read_bytes()
    for size in (len(whole) // 2, len(whole) - (600 if kind == "tar" else 12)):
        path.write_bytes(whole[:size].rstrip(b"\0"))
        assert build.fatal(path) == "damaged_archive"


@pytest.mark.parametrize("prefix", [True, False])
def test_a_zip_with_foreign_bytes_around_it_is_not_taken(tmp_path: Path, build: Any, prefix: bool) -> None:
    path = build.zip(tmp_path / "a.zip", build.good())
    whole, foreign = path.read_bytes(), build.zip(tmp_path / "b.zip", {"dog/9.png": build.picture(9)}).read_bytes()
    path.write_bytes(foreign[:40] + whole if prefix else whole + b"tail")
    assert build.fatal(path) == "damaged_archive"


def test_a_second_tar_behind_the_first_is_not_dropped_silently(tmp_path: Path, build: Any) -> None:
    path = build.tar(tmp_path / "a.tar", build.good())
    path.write_bytes(path.read_bytes() * 2)
    assert build.fatal(path) == "damaged_archive"


def test_a_damaged_header_in_a_tar_is_not_dropped_silently(tmp_path: Path, build: Any) -> None:
    path = build.tar(tmp_path / "a.tar", build.good())
    data = bytearray(path.read_bytes())
    data[data.index(b"dog/0.png")] ^= 1
    path.write_bytes(data)
    assert build.fatal(path) == "damaged_archive"


def test_a_negative_size_in_a_tar_ends_the_reading(tmp_path: Path, build: Any) -> None:
    first, second = tarfile.TarInfo("cat/0.png"), tarfile.TarInfo("cat/1.png")
    first.size = 0
    second.size = -1024
    raw = first.tobuf(tarfile.GNU_FORMAT) + second.tobuf(tarfile.GNU_FORMAT) + bytes(10240)
    (tmp_path / "a.tar").write_bytes(raw)
    assert build.fatal(tmp_path / "a.tar") == "damaged_archive"


def test_long_names_of_long_names_in_a_tar_are_damage(tmp_path: Path, build: Any) -> None:
    """Python's reader goes one call deeper with each."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1
    (tmp_path / "a.tar").write_bytes((info.tobuf(tarfile.GNU_FORMAT) + bytes(512)) * 2000 + bytes(10240))
    assert build.fatal(tmp_path / "a.tar") == "damaged_archive"


def test_names_in_utf8_without_the_flag_are_read_as_written(tmp_path: Path, build: Any) -> None:
    path = build.zip(tmp_path / "a.zip", {"XXXXX/1.png": build.picture()})
    path.write_bytes(path.read_bytes().replace(b"XXXXX", "caf\u00e9".encode()))
    with open_archive(path) as archive:
        assert [m.path for m in archive] == ["caf\u00e9/1.png"]
        assert archive.read(archive.members[0]) == build.picture()


def test_a_name_that_claims_to_be_utf8_and_is_not_is_damage(tmp_path: Path, build: Any) -> None:
    path = build.zip(tmp_path / "a.zip", {"caf\u00e9/1.png": build.picture()})
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\xff\xfe"))
    assert build.fatal(path) == "damaged_archive"


def test_a_zip64_archive_is_read(tmp_path: Path, build: Any) -> None:
    data = build.zip(tmp_path / "a.zip", build.good()).read_bytes()
    count, length, offset = struct.unpack("<H2L", data[-12:-2])
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, length, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, offset + length, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    (tmp_path / "a.zip").write_bytes(data[:-22] + end64 + locator + end)
    with open_archive(tmp_path / "a.zip") as archive:
        assert {member.path: archive.read(member) for member in archive} == build.good()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["zip", "tar", "tar.gz"]), st.lists(st.tuples(st.integers(0), st.binary(max_size=8)), max_size=6)
)
def test_no_mutation_ends_in_anything_but_a_verdict(
    tmp_path: Path, build: Any, kind: str, edits: list[tuple[int, bytes]]
) -> None:
    path = build.packed(kind, tmp_path, build.good())
    data = bytearray(path.read_bytes())
    for place, patch in edits:
        at = place % len(data)
        data[at : at + len(patch)] = patch
    path.write_bytes(data)
    try:
        build.verdicts(path)
    except TaskError as error:
        assert error.code in {"not_an_archive", "damaged_archive", "archive_too_large", "too_many_entries"}  # noqa: PT017  # or none is raised
    assert {p.name for p in tmp_path.iterdir()} <= {"set.zip", "set.tar", "set.tar.gz"}


def test_reading_does_not_unpack_beyond_what_was_declared(tmp_path: Path, build: Any) -> None:
    """A deflate stream longer than its declared size is cut by the reader and then fails its checksum."""
    packed = zlib.compress(bytes(8 << 20), 9)[2:-4]
    header = struct.pack("<5H3L", 20, 0, 8, 0, 0, 0, len(packed), 1000)
    local = b"PK\x03\x04" + header + struct.pack("<2H", 1, 0) + b"x"
    central = b"PK\x01\x02" + struct.pack("<H", 20) + header + struct.pack("<5H2L", 1, 0, 0, 0, 0, 0, 0) + b"x"
    offset = len(local) + len(packed)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(central), offset, 0)
    (tmp_path / "a.zip").write_bytes(local + packed + central + end)
    assert build.verdicts(tmp_path / "a.zip") == {"x": "damaged_file"}


def test_the_bytes_of_an_open_tar_header_are_bounded(tmp_path: Path, build: Any) -> None:
    """A PAX header that claims 8 GiB is not read into memory."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 8 << 30
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + io.BytesIO(bytes(4096)).getvalue())
    assert build.fatal(tmp_path / "a.tar") == "damaged_archive"


@pytest.mark.parametrize("size", [-1, 11, 1 << 40])
def test_a_header_of_a_tar_cannot_ask_for_more_than_is_read_at_once(size: int) -> None:
    bounded = _Bounded(io.BytesIO(bytes(100)), end=100, max_read=10, is_packed=False)
    assert len(bounded.read(10)) == 10
    with pytest.raises(tarfile.ReadError, match=f"asks for {size} bytes"):
        bounded.read(size)
