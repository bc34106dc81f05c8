"""One way to name a service: an address, a profile, or the one on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from difftune.places import address, default_profile
from difftune.service import ServiceError


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DIFFTUNE_URL", "DIFFTUNE_API_KEY", "DIFFTUNE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DIFFTUNE_PROFILES", str(tmp_path / "profiles.toml"))


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    path = tmp_path / "profiles.toml"
    path.write_text('[default]\nurl = "https://a"\nkey = "of-a"\n[lab]\nurl = "https://b"\n')
    return path


def test_what_is_said_goes_before_the_environment_and_that_before_the_profile(
    profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert profiles.is_file()
    assert address() == ("https://a", "of-a")
    monkeypatch.setenv("DIFFTUNE_API_KEY", "of-env")
    assert address() == ("https://a", "of-a")
    monkeypatch.setenv("DIFFTUNE_URL", "https://c")
    assert address() == ("https://c", "of-env")
    assert address("lab") == ("https://b", "of-env")
    assert address("default", "mine") == ("https://a", "mine")


def test_a_key_goes_only_to_the_service_of_its_profile(profiles: Path) -> None:
    assert profiles.is_file()
    with pytest.raises(ServiceError, match="needs an API key"):
        address("https://elsewhere")


def test_a_name_that_is_none_is_told_with_those_that_are(profiles: Path) -> None:
    with pytest.raises(ServiceError, match=rf"in {profiles} there are: default, lab"):
        address("labs")


def test_a_data_folder_goes_before_the_default_profile(profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_profile() is not None
    monkeypatch.setenv("DIFFTUNE_DATA_DIR", str(profiles.parent))
    with pytest.raises(ServiceError, match="no service runs over"):
        address()


@pytest.mark.parametrize("text", ["[lab", "[lab]\nkey = 'x'\n", "lab = 'https://b'\n"])
def test_a_file_that_is_wrong_is_named(profiles: Path, text: str) -> None:
    profiles.write_text(text)
    with pytest.raises(ServiceError, match=str(profiles)):
        address("lab")
