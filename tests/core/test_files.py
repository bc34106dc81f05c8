from __future__ import annotations

import argparse
import errno
import multiprocessing
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from difftune_core.__main__ import _guarded
from difftune_core.channel import ConsoleHooks
from difftune_core.files import build_once, folder_aside, folder_digest, is_disk_full, write_durably


def _build(root: Path) -> None:
    def build(folder: Path) -> None:
        with (root / "builds.log").open("a") as log:
            log.write("built\n")
        (folder / "content").write_text("whole")

    build_once(root / "cache" / "digest", build)


def test_a_models_digest_goes_by_each_file_that_decides_what_it_does(tmp_path: Path) -> None:
    """By the names, too; and by nothing that only describes it."""
    deciding = ["model.safetensors", "unet/config.json", "preprocessor_config.json", "palette.json"]
    deciding += ["tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer/tokenizer.json", "other.safetensors"]
    seen = [folder_digest(tmp_path)]
    for name in deciding:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        for content in ("a", "b"):
            file.write_text(content)
            seen.append(folder_digest(tmp_path))
    (tmp_path / "other.safetensors").rename(tmp_path / "renamed.safetensors")
    seen.append(folder_digest(tmp_path))
    assert len(set(seen)) == len(seen)
    for name in ("card.json", "README.md", "model.bin"):
        (tmp_path / name).write_text("c")
    assert folder_digest(tmp_path) == seen[-1]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_known_by_whoever_tells_of_it(number: int) -> None:
    """A run that ends for it is tried again until there is room; one that "failed in an unforeseen way" only once."""
    told = SafetensorError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")
    for error in (OSError(number, os.strerror(number)), told):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        assert _guarded(argparse.Namespace(command=fail, name="train"), ConsoleHooks()).code == "disk_full"
    assert not is_disk_full(OSError(errno.EACCES, "denied"))
    assert not is_disk_full(SafetensorError("Error while deserializing header: header too large"))


def test_a_write_onto_a_full_disk_leaves_nothing_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_durably(tmp_path / "file", b"before")
    monkeypatch.setattr("difftune_core.files.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_durably(tmp_path / "file", b"after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"before")]


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


def test_what_a_killed_builder_left_is_gone_after_the_next(tmp_path: Path) -> None:
    left, beside = tmp_path / ".digest.4711", tmp_path / ".digest.chunks"
    for folder in (left, beside):
        folder.mkdir()
        (folder / "half").write_bytes(bytes(100))
    build_once(tmp_path / "digest", lambda folder: (folder / "content").write_text("whole") and None)
    assert not left.exists()
    assert beside.exists()
