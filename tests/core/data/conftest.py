"""Builders of archives and images: nothing binary is kept in the repository."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from difftune_core.data.archive import Limits, RefusedError, open_archive
from difftune_core.hooks import Event, StopKind, TaskError


class Build:
    """Writes data sets in any packaging."""

    @staticmethod
    def picture(seed: int = 0, *, width: int = 24, height: int = 20, kind: str = "PNG") -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        return buffer.getvalue()

    def good(self, each: int = 2) -> dict[str, bytes]:
        return {f"{n}/{i}.png": self.picture(100 * c + i) for c, n in enumerate(("cat", "dog")) for i in range(each)}

    @staticmethod
    def zip(path: Path, files: Mapping[str, bytes]) -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path

    @staticmethod
    def tar(path: Path, files: Mapping[str, bytes]) -> Path:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w:") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return path

    @staticmethod
    def folder(path: Path, files: Mapping[str, bytes]) -> Path:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        return path

    def packed(self, kind: str, folder: Path, files: Mapping[str, bytes]) -> Path:
        build = {"zip": self.zip, "tar": self.tar, "tar.gz": self.tar, "folder": self.folder}[kind]
        return build(folder / f"set.{kind}", files)

    @staticmethod
    def verdicts(path: Path, limits: Limits | None = None) -> dict[str, str]:
        """Path -> code of what is refused in listing and reading; the sum rule is checked on the way."""
        with open_archive(path, limits) as archive:
            codes = {r.path: r.code for r in archive.refused}
            assert archive.entries == len(archive.members) + len(archive.refused) + len(archive.junk)
            for member in archive:
                try:
                    assert len(archive.read(member)) == member.bytes
                except RefusedError as error:
                    codes[member.path] = error.code
        return codes

    def fatal(self, path: Path, limits: Limits | None = None) -> str:
        with pytest.raises(TaskError) as caught:
            self.verdicts(path, limits)
        return caught.value.code


class Recorder:
    """Hooks that remember; they ask to stop after `stop_after` events."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.events: list[Event] = []
        self.stop_after = stop_after

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def stop_requested(self) -> StopKind | None:
        return "stop" if self.stop_after is not None and len(self.events) >= self.stop_after else None

    def release(self, checkpoint: Path) -> bool:
        return checkpoint.exists()


@pytest.fixture(scope="session")
def build() -> Build:
    return Build()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
