from __future__ import annotations

from typing import Any

import pytest

from tests.golden import differences, plain

REPORT: dict[str, Any] = {"fid": 12.5, "steps": [1, 2], "note": "of 3 images", "best": None}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"fid": 12.9}, ".fid"),
        ({"steps": [1, 3]}, ".steps[1]"),
        ({"steps": [1]}, ".steps"),
        ({"note": "of 4 images"}, ".note"),
        ({"best": 1}, ".best"),
        ({"more": 1}, ".more"),
        ({"steps": [1.0, 2]}, ".steps[0]"),
    ],
)
def test_a_difference_is_seen_where_it_is(change: dict[str, Any], where: str) -> None:
    (found,) = differences(REPORT, REPORT | change)
    assert found.startswith(where)


def test_rounding_is_none() -> None:
    assert differences(REPORT, REPORT | {"fid": 12.51}) == []
    assert plain({"seconds": 3, "note": "FID 3.25", "of": ("a" * 64,)}) == {"note": "FID 0.0", "of": ["DIGEST"]}
