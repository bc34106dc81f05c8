from pathlib import Path

import pytest

from workbench.tiny.glyphs import GlyphBank, find_fonts
from workbench.tiny.world import BROAD_CLASSES, SOURCE_CLASSES


def test_classes_are_the_letters_and_all_of_them_differ() -> None:
    assert tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == SOURCE_CLASSES
    assert len(set(BROAD_CLASSES)) == len(BROAD_CLASSES)
    assert BROAD_CLASSES[:52] == SOURCE_CLASSES


def test_without_fonts_the_error_names_the_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("workbench.tiny.glyphs._FOLDERS", (tmp_path,))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="fonts-dejavu"):
        find_fonts()
    with pytest.raises(FileNotFoundError, match="no font for script 'latin'"):
        GlyphBank([]).fonts("latin")
