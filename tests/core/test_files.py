from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from difftune_core.files import build_once, folder_aside, write_durably


def _build(root: Path) -> None:
    def build(folder: Path) -> None:
        with (root / "builds.log").open("a") as log:
            log.write("built\n")
        (folder / "content").write_text("whole")

    build_once(root / "cache" / "digest", build)


def test_many_processes_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_build, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "builds.log").read_text() == "built\n"
    assert (tmp_path / "cache" / "digest" / "content").read_text() == "whole"


def test_a_failed_build_leaves_nothing_and_the_next_succeeds(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    final = tmp_path / "cache" / "digest"
    with pytest.raises(OSError, match="disk full"):
        build_once(final, fail)
    assert not final.exists()
    build_once(final, lambda folder: (folder / "content").touch())
    assert sorted(path.name for path in final.iterdir()) == [".sha256.json", "content"]


@pytest.mark.parametrize("damage", [b"whple", b"", None])
def test_what_is_damaged_is_built_again(tmp_path: Path, damage: bytes | None) -> None:
    _build(tmp_path)
    content = tmp_path / "cache" / "digest" / "content"
    content.unlink() if damage is None else content.write_bytes(damage)
    _build(tmp_path)
    _build(tmp_path)
    assert content.read_text() == "whole"
    assert (tmp_path / "builds.log").read_text() == "built\n" * 2


def test_what_an_earlier_version_built_is_taken(tmp_path: Path) -> None:
    _build(tmp_path)
    (tmp_path / "cache" / "digest" / ".sha256.json").unlink()
    _build(tmp_path)
    assert (tmp_path / "builds.log").read_text() == "built\n"


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with folder_aside(tmp_path / "final") as folder:
        (folder / "a").touch()
        assert not (tmp_path / "final").exists()
    assert (tmp_path / "final" / "a").exists()


def test_replacing_a_file_leaves_no_scrap(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for content in (b"one", b"two"):
        write_durably(path, content)
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]
