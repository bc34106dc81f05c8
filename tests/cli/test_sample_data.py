from __future__ import annotations

import io
import zipfile
from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from cli.main import app


def write(target: Path, *options: str) -> int:
    return CliRunner().invoke(app, ["sample-data", str(target), "--per-class", "3", *options]).exit_code


def test_a_data_set_of_four_kinds_of_flowers_is_drawn(tmp_path: Path) -> None:
    assert write(tmp_path / "flowers.zip") == 0
    with zipfile.ZipFile(tmp_path / "flowers.zip") as archive:
        names = archive.namelist()
        pictures = {archive.read(name) for name in names}
        image = Image.open(io.BytesIO(archive.read(names[0])))
    assert {name.partition("/")[0] for name in names} == {"cornflower", "daisy", "poppy", "sunflower"}
    assert len(pictures) == len(names) == 12
    assert (image.size, image.mode) == ((64, 64), "RGB")


def test_a_seed_draws_the_same_flowers_and_another_others(tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert write(tmp_path / f"{name}.zip", "--seed", seed) == 0
    contents = []
    for name in "abc":
        with zipfile.ZipFile(tmp_path / f"{name}.zip") as archive:
            contents.append([archive.read(one) for one in archive.namelist()])
    assert contents[0] == contents[1]
    assert not set(contents[0]) & set(contents[2])


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.zip").write_bytes(b"mine")
    assert write(tmp_path / "mine.zip") == 1
    assert (tmp_path / "mine.zip").read_bytes() == b"mine"
