"""Webdataset's shards, several in one upload: tar files within an archive, as img2dataset writes them."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from difftune_core.data.archive import Limits, open_archive
from difftune_core.data.dataset import open_captioned, open_dataset
from difftune_core.data.decoded import load_rows
from difftune_core.data.images import load_rgb
from difftune_core.hooks import TaskError
from tests.core.data.verdicts import judge


def shard(build: Any, folder: Path, files: dict[str, bytes], ending: str = "tar") -> bytes:
    data: bytes = build.tar(folder / f"inner.{ending}", files).read_bytes()
    return data


def samples(build: Any, start: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for number in range(start, start + 3):
        files[f"{number:06}.jpg"] = build.picture(number, kind="JPEG")
        files[f"{number:06}.txt"] = f"picture {number}".encode()
        files[f"{number:06}.json"] = json.dumps({"caption": "of the web", "key": f"{number:06}"}).encode()
    return files


def shards(build: Any, folder: Path, ending: str) -> dict[str, bytes]:
    return {
        f"00000.{ending}": shard(build, folder, samples(build, 0), ending),
        "00000_stats.json": b"{}",
        "00000.parquet": b"PAR1",
        f"00001.{ending}": shard(build, folder, samples(build, 3), ending),
    }


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "folder"])
def test_several_shards_in_one_upload_are_one_set(
    tmp_path: Path, build: Any, recorder: Any, kind: str, ending: str
) -> None:
    path = build.packed(kind, tmp_path, shards(build, tmp_path, ending))
    found = judge(path, recorder)
    assert found.codes() == {}
    assert [item["caption"] for item in found.items] == [f"picture {number}" for number in range(6)]
    assert len(found.ignored) == 8
    dataset = open_captioned(path)
    seen = dict(zip((item.caption for item in dataset.items), load_rows(dataset, 16).pixels, strict=True))
    assert all((seen[f"picture {n}"] == load_rgb(build.picture(n, kind="JPEG"), 16)).all() for n in range(6))


def test_one_shard_alone_and_a_caption_in_its_json(tmp_path: Path, build: Any, recorder: Any) -> None:
    found = judge(build.tar(tmp_path / "a.tar", samples(build, 0)), recorder)
    assert [item["caption"] for item in found.items] == ["picture 0", "picture 1", "picture 2"]
    bare = {name: data for name, data in samples(build, 0).items() if not name.endswith(".txt")}
    found = judge(build.tar(tmp_path / "b.tar", bare), recorder)
    assert [item["caption"] for item in found.items] == ["of the web"] * 3


def test_cls_files_name_classes_in_shards_too(tmp_path: Path, build: Any, recorder: Any) -> None:
    def labelled(start: int) -> dict[str, bytes]:
        numbers = range(start, start + 4)
        images = {f"{number:04}.png": build.picture(number) for number in numbers}
        return images | {f"{number:04}.cls": f"{number % 2}\n".encode() for number in numbers}

    files = {f"{n}.tar": shard(build, tmp_path, labelled(4 * n)) for n in range(2)}
    path = build.zip(tmp_path / "a.zip", files)
    found = judge(path, recorder)
    assert found.report["class_counts"] == {"0": 4, "1": 4}
    assert not found.ignored, "a file that was read is none that is of no use"
    assert found.report["accepted"] == found.report["entries"] == 16
    assert open_dataset(path).labels.tolist() == [0, 1] * 4


def of_classes(build: Any, names: list[bytes]) -> dict[str, bytes]:
    images = {f"{number}.png": build.picture(number) for number in range(len(names))}
    return images | {f"{number}.cls": name for number, name in enumerate(names)}


@pytest.mark.parametrize("name", ["RED\x1b[31m", "a\u202eb", "n" * 256])
def test_a_class_that_no_folder_could_be_called_is_refused(
    tmp_path: Path, build: Any, recorder: Any, name: str
) -> None:
    files = of_classes(build, [b"cat"] * 3 + [b"dog"] * 3 + [name.encode()])
    found = judge(build.zip(tmp_path / "a.zip", files), recorder)
    assert found.codes() == {"6.png": "unsafe_name"}


def test_classes_of_cls_files_are_compared_as_folders_are(tmp_path: Path, build: Any, recorder: Any) -> None:
    names = [unicodedata.normalize(form, "caf\u00e9").encode() for form in ("NFC", "NFD")] * 2
    found = judge(build.zip(tmp_path / "a.zip", of_classes(build, [*names, b"tea", b"tea"])), recorder)
    assert found.report["class_counts"] == {"caf\u00e9": 4, "tea": 2}


def test_class_folders_and_splits_of_shards(tmp_path: Path, build: Any, recorder: Any) -> None:
    files = {f"part{n}.tar": shard(build, tmp_path, build.good()) for n in range(2)}
    assert judge(build.zip(tmp_path / "a.zip", files), recorder).report["class_counts"] == {"cat": 4, "dog": 4}
    files = {f"{name}-00000.tgz": shard(build, tmp_path, build.good(), "tar.gz") for name in ("train", "val")}
    path = build.zip(tmp_path / "b.zip", files)
    assert judge(path, recorder).codes() == {"b.zip": "splits_found"}
    assert judge(path, recorder, splits="train").report["class_counts"] == {"cat": 2, "dog": 2}


def test_names_in_shards_are_judged_as_any_others(tmp_path: Path, build: Any) -> None:
    hostile = ["../x.png", "/etc/x.png", "C:/x.png", "a\\..\\..\\x.png"]
    inner = shard(build, tmp_path, {**dict.fromkeys(hostile, build.picture()), **build.good()})
    (tmp_path / "inner.tar").unlink()
    codes = build.verdicts(build.zip(tmp_path / "a.zip", {"s.tar": inner}))
    assert list(codes.values()) == ["unsafe_path"] * len(hostile)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_limits_hold_for_all_shards_together(tmp_path: Path, build: Any) -> None:
    inner = shard(build, tmp_path, build.good())
    path = build.zip(tmp_path / "a.zip", {f"{n}.tar": inner for n in range(3)})
    with open_archive(path, Limits(max_entries=12)) as archive:
        assert archive.entries == 12
    assert build.fatal(path, Limits(max_entries=11)) == "too_many_entries"
    total = 3 * sum(map(len, build.good().values()))
    assert build.fatal(path, Limits(max_total_bytes=total - 1)) == "archive_too_large"


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_layer_more_multiplies_nothing(tmp_path: Path, build: Any, kind: str) -> None:
    files = [{f"cat/{number}.png": random.Random(number).randbytes(20_000) + bytes(1 << 20)} for number in range(4)]
    inner = {f"{number}.tar.gz": shard(build, tmp_path, each, "tar.gz") for number, each in enumerate(files)}
    path = build.packed(kind, tmp_path, inner)
    assert build.verdicts(path, Limits(max_ratio=60)) == {}, "each shard has a ratio of about 50, and so have all"
    for one in inner.values():
        (tmp_path / "one.tar.gz").write_bytes(one)
        assert build.verdicts(tmp_path / "one.tar.gz", Limits(max_ratio=10)) == {}, "the first MiB costs nothing"
    with pytest.raises(TaskError, match=r"cat/1\.png unpacks to 1068576 bytes") as caught:
        open_archive(path, Limits(max_ratio=10))
    assert caught.value.code == "archive_too_large"


def test_a_cut_shard_is_named(tmp_path: Path, build: Any, recorder: Any) -> None:
    inner = shard(build, tmp_path, build.good(20))
    path = build.zip(tmp_path / "a.zip", {"0.tar": inner, "1.tar": inner[: len(inner) // 2]})
    found = judge(path, recorder)
    assert found.codes() == {"1.tar": "damaged_archive", "1.tar/dog/2.png": "damaged_file"}
    assert judge(path, recorder, on_bad_files="skip").report["ok"]


def test_shards_within_shards_are_not_opened(tmp_path: Path, build: Any) -> None:
    inner = shard(build, tmp_path, {"deep.tar": shard(build, tmp_path, build.good()), **build.good()})
    assert build.verdicts(build.zip(tmp_path / "a.zip", {"s.tar": inner})) == {"s.tar/deep.tar": "nested_archive"}
