"""What libraries throw over foreign files, and bounds on what such files may ask for."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import pytest

from difftune_core.hooks import TaskError
from difftune_core.runtime.foreign import check_sizes, copy_config, reading, refuse_links


@pytest.mark.parametrize("error", [ValueError("two\nlines"), RecursionError("deep"), OSError(errno.ENOENT, "gone")])
def test_whatever_is_thrown_names_the_file(error: Exception) -> None:
    with pytest.raises(TaskError, match=r"^a file: ") as caught, reading("a file", "field"):
        raise error
    assert (caught.value.code, caught.value.param, "\n" in str(caught.value)) == ("model_mismatch", "field", False)


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "disk"), OSError(errno.ENOSPC, "full")])
def test_what_may_pass_is_not_blamed_on_the_file(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, reading("a file", "field"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"a": {"b": [1, float("inf")]}}, "f.json, a.b: inf"),
        ({"size": [{"height": 4097}]}, "f.json, size.height: at most 4,096"),
        ({"unknown": -(10**12)}, "f.json, unknown: at most"),
    ],
)
def test_numbers_beyond_all_bounds_are_named(config: dict[str, Any], named: str) -> None:
    with pytest.raises(TaskError, match=re.escape(named)):
        check_sizes(config, "f.json")
    check_sizes({"a": 1.5, "size": {"height": 4096}, "flag": True, "name": "x", "nothing": None}, "f.json")


def test_a_copied_config_names_no_code(tmp_path: Path) -> None:
    source = tmp_path / "preprocessor_config.json"
    source.write_text('{"auto_map": {"AutoImageProcessor": "x--y.Z"}, "_name_or_path": "/home", "do_resize": true}')
    (tmp_path / "to").mkdir()
    copy_config(source, tmp_path / "to")
    assert (tmp_path / "to" / source.name).read_text() == '{\n  "do_resize": true\n}\n'


def test_a_hubs_cache_is_made_of_links(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("0" * 40)
    (snapshot / "unet").mkdir(parents=True)
    blob = tmp_path / "models--a--b" / "blobs" / "1"
    blob.parent.mkdir()
    blob.write_text("{}")
    (snapshot / "unet" / "config.json").symlink_to(Path("../../../blobs/1"))
    assert (snapshot / "unet" / "config.json").read_text() == "{}"
    refuse_links(snapshot)
    (snapshot / "secret.json").symlink_to(tmp_path)
    with pytest.raises(TaskError, match=r"secret\.json"):
        refuse_links(snapshot)
