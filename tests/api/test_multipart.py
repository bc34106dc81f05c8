from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.errors import MalformedError, TooLargeError
from api.multipart import limited, read_form

TYPE = "multipart/form-data; boundary=xyz"


def form(*parts: tuple[bytes, bytes]) -> bytes:
    head = b'--xyz\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n%s\r\n'
    return b"".join(head % part for part in parts) + b"--xyz--\r\n"


def cut(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=3), st.integers(1, 400))
def test_contents_survive_however_the_body_is_cut(contents: list[bytes], size: int) -> None:
    body = form(*((str(n).encode(), content) for n, content in enumerate(contents)))
    found = [(part.name, b"".join(part.chunks)) for part in read_form(TYPE, cut(body, size))]
    assert found == [(str(n), content) for n, content in enumerate(contents)]


def test_what_looks_like_a_boundary_is_content() -> None:
    tricky = b"\r\n--xy\r\n--\r\n\r\n--xy z--xyz"
    for size in range(1, 40):
        (part,) = [b"".join(part.chunks) for part in read_form(TYPE, cut(form((b"a", tricky)), size))]
        assert part == tricky


def test_parts_that_are_not_read_are_skipped() -> None:
    body = form((b"a", b"x" * 5000), (b"b", b"y"))
    assert [part.name for part in read_form(TYPE, cut(body, 100))] == ["a", "b"]


@pytest.mark.parametrize("length", range(0, 70, 7))
def test_a_form_that_is_cut_off_is_no_form(length: int) -> None:
    body = form((b"a", b"content"))[: length - 75]
    with pytest.raises(MalformedError):
        [b"".join(part.chunks) for part in read_form(TYPE, [body])]


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=a",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'a' * 71}",
        f"multipart/form-data; boundary={'a' * 4000}",
    ],
)
def test_other_types_are_refused(content_type: str | None) -> None:
    with pytest.raises(MalformedError):
        list(read_form(content_type, [form((b"a", b"b"))]))


def test_fields_and_their_number_are_limited() -> None:
    with pytest.raises(MalformedError):
        list(read_form(TYPE, [form(*[(b"a", b"")] * 33)]))
    with pytest.raises(TooLargeError):
        [part.text() for part in read_form(TYPE, [form((b"a", b"x" * 70_000))])]
    assert list(limited([b"ab", b"c"], 3, what="it")) == [b"ab", b"c"]
    with pytest.raises(TooLargeError, match="it is larger than 2 bytes"):
        list(limited([b"ab", b"c"], 2, what="it"))
