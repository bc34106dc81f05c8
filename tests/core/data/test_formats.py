"""Formats are known by their first bytes."""

from __future__ import annotations

import pytest

from difftune_core.data.formats import sniff


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"RIFF\0\0\0\0WEBPVP8 ", "WEBP"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"RIFX\0\0\0\0WEBPVP8 ", None),
        (b"BM" + bytes(12) + b"\x28\0\0\0" + bytes(36), "BMP"),
        (b"BM" + bytes(12) + b"\x29\0\0\0" + bytes(36), None),
        (b"BMW and other cars", None),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "AVIF"),
        (b"\0\0\0\x1cftypmp42\0\0\0\0mp42isomavc1", None),
        (b"", None),
    ],
)
def test_a_format_is_known_by_its_first_bytes(data: bytes, kind: str | None) -> None:
    assert sniff(data) == kind
